"""The tables of the page: what a run came to, its newest scores, its settings. A cell for each run, as text."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from p2p_keras.config import best_metric, task_name, total_steps
from p2p_keras.metrics.table import BY_NAME, in_order, split_label
from p2p_keras.report.gather import Run
from p2p_keras.report.repeat import changed_settings, default_settings
from p2p_keras.system.progress import rough_duration
from p2p_keras.system.sealed import is_number
from p2p_keras.workdir.folder import settings_of

NONE = "–"


class Row(NamedTuple):
    """A line of a table."""

    title: str
    cells: list[str]
    differs: bool = False  # from run to run


class Table(NamedTuple):
    """A table under column headings."""

    columns: list[str]
    rows: list[Row]


def summary(runs: Sequence[Run]) -> list[Row]:
    """What was trained, on what, how far, how long, and to which losses; what is known of no run is left out."""
    facts: dict[str, Callable[[Run], str]] = {
        "Task": _task,
        "Folder": lambda run: str(run.workdir),
        "Data": lambda run: run.config.data_dir or "the demo, a drawn town",
        "Pairs": _pairs,
        "Networks": _networks,
        "Done": _done,
        "Time": _time,
        "Losses, newest epoch": _losses,
        "Best checkpoint": _best,
    }
    rows = [Row(title, [fact(run) for run in runs]) for title, fact in facts.items()]
    return [Row(row.title, [cell or NONE for cell in row.cells]) for row in rows if any(row.cells)]


def scores(runs: Sequence[Run]) -> Table | None:
    """The newest evaluation of each run and split, a column each; None if nothing was scored."""
    newest = [(run, split, records[-1]) for run in runs for split, records in run.evaluations.items()]
    if not newest:
        return None
    columns = []
    for run, split, record in newest:
        where = f"{split}/, step {record['step']:,}, {record['count']:,} images"
        columns.append(f"{run.name}: {where}" if len(runs) > 1 else where)
    rows = []
    for name in in_order({name for _, _, record in newest for name in record["metrics"]}):
        base, label = split_label(name)
        metric = BY_NAME[base]
        better = "higher is better" if metric.higher_is_better else "lower is better"
        cells = [show_score(name, record["metrics"].get(name)) for _, _, record in newest]
        rows.append(Row(f"{metric.heading(metric.chart_title or metric.title, label)} ({better})", cells))
    return Table(columns, rows)


def show_score(name: str, value: float | None) -> str:
    """A metric's value as tables show it."""
    metric = BY_NAME[split_label(name)[0]]
    return NONE if value is None else f"{metric.scale * value:.{metric.decimals}f}"


def settings(runs: Sequence[Run]) -> tuple[Table, Table]:
    """The settings that depart from the defaults of p2p-train in any run, and all others.

    The last column is the default, where all runs have the same; it depends on whether the data are the demo's.
    """
    every = [settings_of(run.config) for run in runs]
    defaults = [default_settings(run.config) for run in runs]
    changed = {name for run in runs for name in changed_settings(run.config)}
    departing, others = [], []
    for name in every[0]:
        cells = [_show(each[name]) for each in every]
        own = {_show(each[name]) for each in defaults}
        row = Row(f"--{name}", [*cells, own.pop() if len(own) == 1 else NONE], len(set(cells)) > 1)
        (departing if name in changed else others).append(row)
    columns = [*(run.name for run in runs), "default"]
    return Table(columns, departing), Table(columns, others)


def _show(value: object) -> str:
    if value is None or value in ("", (), []):
        return NONE
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _task(run: Run) -> str:
    task = task_name(run.config)
    return f"{task}, of panels {', '.join(run.config.panels)}" if run.config.panels else task


def _pairs(run: Run) -> str:
    counts = run.record.get("data", {}).get("counts")
    if not isinstance(counts, dict):
        return ""
    return ", ".join(f"{count:,} {split}" for split, count in counts.items() if isinstance(count, int) and count)


def _networks(run: Run) -> str:
    config = run.config
    return (
        f"{config.image_size} pixels, {config.base_filters} base filters, discriminator {config.discriminator}, "
        f"{config.precision}"
    )


def _done(run: Run) -> str:
    if "imported" in run.record:
        return "imported, not trained here"
    total = total_steps(run.config, run.steps_per_epoch)
    done = max([*run.steps[-1:], *(record["step"] for record in run.history[-1:])], default=0)
    epochs = f"epoch {done / run.steps_per_epoch:.4g} of {total / run.steps_per_epoch:.4g}"
    return f"step {done:,} of {total:,}, {epochs}"


def _time(run: Run) -> str:
    secs = [record["secs"] for record in run.history if is_number(record.get("secs"))]
    rates = [r["images_per_sec"] for r in run.history if is_number(r.get("images_per_sec"))]
    if not secs:
        return ""
    return rough_duration(sum(secs)) + (f", {sorted(rates)[len(rates) // 2]:.3g} images/s" if rates else "")


def _losses(run: Run) -> str:
    if not run.history:
        return ""
    newest = run.history[-1]
    return f"GAN {newest['gan_loss']:.3f}, L1 {newest['l1_loss']:.4f}, discriminator {newest['discriminator_loss']:.3f}"


def _best(run: Run) -> str:
    if run.best_step is None:
        return ""
    metric = BY_NAME[split_label(best_metric(run.config))[0]]
    return f"step {run.best_step:,}, epoch {run.best_step / run.steps_per_epoch:.4g}, by {metric.title}"
