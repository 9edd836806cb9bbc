"""Pictures of numbers, by matplotlib."""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from p2p_keras.images import write_png

LN2 = 0.6931  # what both adversarial losses are when the discriminator cannot tell real from generated


def training_curves(history: list[dict], path: Path) -> None:
    """Draws the losses of a run over its epochs: adversarial ones left, L1 right.

    Args:
        history: Records of `history.jsonl`.
        path: PNG file to write.
    """
    epochs = [record["epoch"] for record in history]
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(9, 3.2), dpi=120, layout="constrained")
        adversarial, reconstruction = figure.subplots(1, 2)
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
        for axes in (adversarial, reconstruction):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        write_png(path, _pixels(figure))


def _pixels(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
