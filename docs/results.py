"""Draws docs/results.png and docs/few.png from the records in benchmarks/quality, which benchmarks/quality.py made.

python docs/results.py
"""

import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt

DOCS = Path(__file__).parent
RECORDS = DOCS.parent / "benchmarks" / "quality"
# Of 256x256: the standard pix2pix in PyTorch, scored by another program on the same features, and a run whose records
# are gone (docs/results.md has its row).
PYTORCH = [(4000, 2.270), (8000, 1.880), (12000, 1.547)]
PAPER_256 = [(4000, 1.920)]
BLUE, ORANGE, GREY = "#4477aa", "#cc7733", "#888888"
STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def main() -> None:
    """Draws both."""
    plt.rcParams.update(STYLE)
    draw_images()
    draw_few()


def draw_images() -> None:
    """FID after so many images."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True, layout="constrained")
    for axis, file, best, title in (
        (axes[0], "facades-256.json", "resize-ema-augment", "256x256, 64 filters, 400 pairs"),
        (axes[1], "facades-128.json", "best", "128x128, 32 filters, 360 pairs"),
    ):
        records = json.loads((RECORDS / file).read_text())
        if file == "facades-256.json":
            plot(axis, PYTORCH, "PyTorch, standard", GREY)
            plot(axis, PAPER_256, "--preset=paper", ORANGE)
        else:
            plot(axis, fid(records, "paper"), "--preset=paper", ORANGE)
        plot(axis, fid(records, best), "batch 1, with jitter and dropout, else as default", ORANGE, dashed=True)
        if file == "facades-128.json":
            plot(
                axis, fid(json.loads((RECORDS / "facades-128-zen5.json").read_text()), "n8-nodropout"), "default", BLUE
            )
        else:
            plot(axis, fid(records, "n8-nodropout"), "default", BLUE)
        axis.set(title=title, xlabel="training images", xlim=(0, 12800), xticks=(0, 4000, 8000, 12000))
        axis.legend(frameon=False, loc="lower left")
    axes[0].set(ylabel="FID@768, lower is better", ylim=(0, None))
    figure.suptitle("CMP Facades, labels -> photo, the 106 test pairs")
    figure.savefig(DOCS / "results.png", dpi=110)


def fid(records: Sequence[dict], cell: str) -> list[tuple[int, float]]:
    """(images, FID on test/) of a cell, seed 0."""
    found = [r for r in records if (r["cell"], r["seed"], r["split"]) == (cell, 0, "test")]
    return sorted((record["images"], record["fid"]) for record in found)


def plot(axis: plt.Axes, points: Sequence[tuple[float, float]], label: str, colour: str, dashed: bool = False) -> None:
    """A line with its points."""
    axis.plot(*zip(*points, strict=True), "o--" if dashed else "o-", label=label, color=colour, markersize=4)


def draw_few() -> None:
    """What comes of a long training on 50 pairs."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    runs = json.loads((RECORDS / "facades-50-epochs.json").read_text())
    for (label, rows), colour in zip(runs.items(), (ORANGE, BLUE), strict=False):
        plot(left, [(row["epoch"], row["val_l1"]) for row in rows], f"{label}, val", colour)
        plot(left, [(row["epoch"], row["train_l1"]) for row in rows], f"{label}, training", colour, dashed=True)
        plot(right, [(row["epoch"], row["val_fid"]) for row in rows], label, colour)
    left.set(title="L1, [-1, 1]", xlabel="epoch", ylim=(0, 0.55))
    right.set(title="FID@768 of the 40 val pairs, lower is better", xlabel="epoch", ylim=(0, None))
    left.legend(frameon=False, fontsize=8, loc="upper right", ncols=2)
    right.legend(frameon=False)
    figure.suptitle("50 pairs of CMP Facades, 128x128, 32 filters")
    figure.savefig(DOCS / "few.png", dpi=110)


if __name__ == "__main__":
    main()
