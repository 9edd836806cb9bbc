"""Images of numbers, by matplotlib."""

import textwrap
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from p2p_keras.images.files import write_png
from p2p_keras.metrics.table import BY_NAME, in_order, split_label

LN2 = 0.6931  # what both adversarial losses are when the discriminator cannot tell real from generated

_STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "text.parse_math": False}


def training_curves(history: list[dict], path: Path) -> None:
    """Draws `training_figure` of the records of `history.jsonl` into a PNG file."""
    _write(training_figure(history), path)


def metric_curves(curves: dict[str, list[dict]], path: Path) -> None:
    """Draws `metric_figure` of curves, by name, into a PNG file."""
    _write(metric_figure(curves), path)


@matplotlib.rc_context(_STYLE)
def training_figure(history: list[dict]) -> Figure:
    """The losses of a run over its epochs: adversarial ones left, L1 right; with it what evaluations found.

    Args:
        history: Records of `history.jsonl`.
    """
    epochs = [record["epoch"] for record in history]
    scored = [record for record in history if record.get("evaluation")]
    split = scored[-1]["evaluation"]["split"] if scored else ""
    scored = [r for r in scored if r["evaluation"]["split"] == split and "l1" in r["evaluation"]]
    found = in_order({name for record in scored for name in record["evaluation"]})
    seen = [name for base in ("kid", "fid") for name in found if split_label(name)[0] == base]
    figure = Figure(figsize=(13.5 if seen else 9, 3.2), dpi=120, layout="constrained")
    adversarial, reconstruction, *more = figure.subplots(1, 3 if seen else 2)
    marker = "o" if len(epochs) < 30 else None
    for name, label, colour in (
        ("gan_loss", "generator (GAN)", "tab:blue"),
        ("discriminator_loss", "discriminator", "tab:red"),
    ):
        values = [record[name] for record in history]
        adversarial.plot(epochs, values, label=label, color=colour, marker=marker, markersize=3)
    adversarial.axhline(LN2, color="grey", linewidth=0.8, linestyle="--", label="ln 2: cannot tell")
    highest = max(max(record["gan_loss"], record["discriminator_loss"], LN2) for record in history)
    adversarial.set(xlabel="epoch", title="Adversarial losses", ylim=(0, 1.1 * highest))
    adversarial.legend(frameon=False)
    l1 = [record["l1_loss"] for record in history]
    reconstruction.plot(epochs, l1, color="tab:green", marker=marker, markersize=3)
    reconstruction.set(xlabel="epoch", title="L1 loss on training pairs, [-1, 1]", ylim=(0, 1.1 * max(l1)))
    if scored:
        scores = [record["evaluation"]["l1"] for record in scored]
        x = [record["epoch"] for record in scored]
        reconstruction.plot(x, scores, color="tab:orange", marker=marker, markersize=3, label=split)
        reconstruction.lines[0].set_label("training")
        reconstruction.set(title="L1, [-1, 1]", ylim=(0, 1.1 * max(l1 + scores)))
        reconstruction.legend(frameon=False)
    for axes, name in zip(more, seen[:1], strict=False):
        known = [record for record in scored if name in record["evaluation"]]
        base, label = split_label(name)
        metric = BY_NAME[base]
        x = [record["epoch"] for record in known]
        y = [metric.scale * record["evaluation"][name] for record in known]
        axes.plot(x, y, color="tab:purple", marker=marker, markersize=3)
        axes.set(xlabel="epoch", title=f"{metric.heading(metric.chart_title, label)} on {split}, lower is better")
    for axes in figure.axes:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


@matplotlib.rc_context(_STYLE)
def metric_figure(curves: dict[str, list[dict]]) -> Figure:
    """Each metric over the epochs, a panel each: the report's figures 10 to 13 and their paired companions.

    Args:
        curves: For each curve's name the records of `metrics.json` on it, by step.
    """
    found = {name for records in curves.values() for record in records for name in record["metrics"]}
    names = [name for name in in_order(found) if BY_NAME[split_label(name)[0]].chart_title]
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    epochs = [record["epoch"] for records in curves.values() for record in records]
    figure = Figure(figsize=(3.2 * columns, 2.6 * rows + 0.4), dpi=120, layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel, name in zip(panels, names, strict=False):
        base, label = split_label(name)
        metric = BY_NAME[base]
        better = "higher" if metric.higher_is_better else "lower"
        for i, (curve, records) in enumerate(curves.items()):
            known = [record for record in records if name in record["metrics"]]
            x = [record["epoch"] for record in known]
            y = metric.scale * np.array([record["metrics"][name] for record in known])
            panel.plot(x, y, label=curve, color=f"C{i}", marker="o", markersize=3)
            spread_name = f"{base}_std{label}"
            if any(spread_name in record["metrics"] for record in known):
                spread = metric.scale * np.array([record["metrics"][spread_name] for record in known])
                panel.fill_between(x, y - spread, y + spread, color=f"C{i}", alpha=0.2, linewidth=0)
        panel.set(xlabel="epoch", title=f"{metric.heading(metric.chart_title, label)}, {better} is better")
        panel.set_xlim(0, 1.05 * max(epochs) or 1)  # an imported generator is of epoch 0 alone
    for panel in panels[len(names) :]:
        panel.remove()
    seen = {curve: _images_of(records[-1]) for curve, records in curves.items()}
    if len(set(seen.values())) == 1 < len(seen):
        title = seen.popitem()[1]
    else:
        title = ", ".join(f"{curve}: {images}" for curve, images in seen.items())
    figure.suptitle(textwrap.fill(title, 36 * columns))
    if len(curves) > 1:
        panels[0].legend(frameon=False)
    return figure


@matplotlib.rc_context(_STYLE)
def _write(figure: Figure, path: Path) -> None:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    write_png(path, np.asarray(canvas.buffer_rgba())[..., :3].copy())


def _images_of(record: dict) -> str:
    images = record["pictures"]
    against = f" (FID, KID against {images['reference']['split']})" if "reference" in images else ""
    return f"{record['count']:,} images of {images['split']}{against}"
