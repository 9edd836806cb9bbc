"""The charts of the page as numbers: losses over the epochs, and every metric that was scored."""

import math
from collections.abc import Sequence
from typing import Any

from p2p_keras.metrics.table import BY_NAME, in_order, split_label
from p2p_keras.report.gather import Run
from p2p_keras.report.pictures import spread

MOST_POINTS = 1000  # of a curve; more cannot be told apart

Chart = dict[str, Any]
Series = dict[str, Any]


def charts(runs: Sequence[Run]) -> list[Chart]:
    """A chart for the adversarial losses, one for L1, and one for each other metric that was scored.

    Returns:
        For each chart `title`, `note`, `zero` (whether its axis begins at 0), `decimals`, `level` (a line drawn across,
        with its `label`, or None), and `series`: `name`, `run` (its number), `style` (0 solid, 1 dashed ...) and
        `points`, `[epoch, value]` each.
    """
    several = len(runs) > 1

    def series(number: int, style: int, what: str, points: list[list[float]]) -> Series:
        name = f"{runs[number].name}: {what}" if several and what else runs[number].name if several else what
        taken = [points[i] for i in spread(len(points), MOST_POINTS)]
        return {"name": name, "run": number, "style": style, "points": taken}

    adversarial, l1 = [], []
    for number, run in enumerate(runs):
        adversarial.append(series(number, 0, "generator (GAN)", _of_history(run, "gan_loss")))
        adversarial.append(series(number, 1, "discriminator", _of_history(run, "discriminator_loss")))
        l1.append(series(number, 0, "training pairs", _of_history(run, "l1_loss")))
        for style, split in enumerate(_splits(runs), start=1):
            l1.append(series(number, style, f"{split}/", _of_metric(run, split, "l1")))
    level = {"value": math.log(2), "label": "ln 2: cannot tell"}
    found = [
        _chart("Adversarial losses", "", adversarial, True, 3, level),
        _chart("L1, [-1, 1]", "lower is better", l1, True, 4),
    ]
    scored = {name for run in runs for records in run.evaluations.values() for r in records for name in r["metrics"]}
    for name in in_order(scored - {"l1"}):
        base, label = split_label(name)
        metric = BY_NAME[base]
        if metric.chart_title:
            curves = [
                series(number, style, f"{split}/", _of_metric(run, split, name))
                for number, run in enumerate(runs)
                for style, split in enumerate(_splits(runs))
            ]
            note = "higher is better" if metric.higher_is_better else "lower is better"
            found.append(_chart(metric.heading(metric.chart_title, label), note, curves, False, metric.decimals))
    return [chart for chart in found if chart["series"]]


def _chart(
    title: str, note: str, series: list[Series], zero: bool, decimals: int, level: dict[str, Any] | None = None
) -> Chart:
    drawn = [each for each in series if each["points"]]
    return {"title": title, "note": note, "series": drawn, "zero": zero, "decimals": decimals, "level": level}


def _splits(runs: Sequence[Run]) -> list[str]:
    return [split for split in ("val", "test", "train") if any(split in run.evaluations for run in runs)]


def _of_history(run: Run, name: str) -> list[list[float]]:
    return [[record["epoch"], record[name]] for record in run.history]


def _of_metric(run: Run, split: str, name: str) -> list[list[float]]:
    scale = BY_NAME[split_label(name)[0]].scale
    known = [record for record in run.evaluations.get(split, ()) if name in record["metrics"]]
    return [[record["epoch"], scale * record["metrics"][name]] for record in known]
