"""Draws docs/architecture.png: the maps of both networks, read off the models themselves.

python docs/architecture.py
"""

from pathlib import Path

import keras
import matplotlib.pyplot as plt
from matplotlib.patches import FancyArrowPatch, Rectangle

from p2p_keras import models

BLUE, ORANGE, GREY = "#4477aa", "#cc7733", "#888888"


def main() -> None:
    """Draws both."""
    generator, discriminator = models.build_generator(256), models.build_discriminator("patch70", 256)
    figure, (above, below) = plt.subplots(2, 1, figsize=(12, 7.6), height_ratios=(1.4, 1))
    draw_generator(above, generator)
    draw_discriminator(below, discriminator)
    figure.tight_layout()
    figure.savefig(Path(__file__).parent / "architecture.png", dpi=110)


def draw_generator(axis: plt.Axes, generator: keras.Model) -> None:
    """The hourglass, and an arc for each skip connection."""
    convolutions = [layer for layer in generator.layers if hasattr(layer, "kernel")]
    noisy = {layer.name.removesuffix("_noise") for layer in generator.layers if layer.name.endswith("_noise")}
    down = [layer for layer in convolutions if layer.name.startswith("down")]
    up = [layer for layer in convolutions if layer not in down]
    maps = [("input", tuple(generator.inputs[0].shape[1:]), GREY)]
    maps += [(layer.name, tuple(layer.output.shape[1:]), BLUE) for layer in down]
    maps += [(layer.name, tuple(layer.output.shape[1:]), ORANGE) for layer in up]
    places = [place_of(axis, i, shape, colour, name in noisy) for i, (name, shape, colour) in enumerate(maps)]
    for i in range(1, len(down)):  # the innermost has no counterpart
        j = len(maps) - 1 - i
        style = {"arrowstyle": "-|>", "connectionstyle": "arc3,rad=-0.25", "color": GREY, "mutation_scale": 9}
        axis.add_patch(FancyArrowPatch(places[i], places[j], linewidth=0.8, **style))
    axis.set_title(
        f"Generator: U-Net, {generator.count_params() / 1e6:.1f} million parameters. Blue halves, orange doubles;\n"
        "an arc's map is joined to the one it ends at, channel by channel; dashed: with dropout noise",
        fontsize=10,
    )
    axis.set_xlim(-0.8, len(maps) - 0.2)
    axis.set_ylim(-2.2, 10.6)
    axis.axis("off")


def draw_discriminator(axis: plt.Axes, discriminator: keras.Model) -> None:
    """The maps, and under each how much of the image one of its pixels sees."""
    layers = [layer for layer in discriminator.layers if hasattr(layer, "kernel")]
    channels = sum(tensor.shape[-1] for tensor in discriminator.inputs)
    side = discriminator.inputs[0].shape[1]
    place_of(axis, 0, (side, side, channels), GREY, caption="input and target")
    seen, spacing = 1, 1  # pixels of the image that one of a map sees, and between two neighbours
    for i, layer in enumerate(layers, start=1):
        seen += (layer.kernel_size[0] - 1) * spacing
        spacing *= layer.strides[0]
        last = "logits, " if layer is layers[-1] else ""
        place_of(axis, 2 * i, tuple(layer.output.shape[1:]), BLUE, caption=f"{last}sees {seen}x{seen}")
    axis.set_title(
        f"Discriminator: PatchGAN, {discriminator.count_params() / 1e6:.1f} million parameters. Each logit judges "
        f"{seen}x{seen} pixels",
        fontsize=10,
    )
    axis.set_xlim(-1.2, 2 * len(layers) + 1.2)
    axis.set_ylim(-2.6, 8.6)
    axis.axis("off")


def place_of(axis, x, shape, colour, dashed=False, caption="") -> tuple[float, float]:
    """Draws a map, as tall as its side and as wide as its channels, by their logarithms; returns its upper middle."""
    side, _, channels = shape
    tall, wide = side.bit_length() - 0.4, 0.12 + 0.055 * channels.bit_length()
    style = {"facecolor": colour, "alpha": 0.85, "edgecolor": "black", "linestyle": "--" if dashed else "-"}
    axis.add_patch(Rectangle((x - wide / 2, 0), wide, tall * 0.8, **style, linewidth=1.1 if dashed else 0.4))
    axis.text(x, -0.25, f"{side}x{side}\nx {channels}", ha="center", va="top", fontsize=8)
    axis.text(x, -1.7, caption, ha="center", va="top", fontsize=8, color=GREY)
    return x, tall * 0.8 + 0.1


if __name__ == "__main__":
    main()
