import numpy as np
from PIL import Image

from p2p_keras import charts


def test_curves_are_drawn_in_their_colours(tmp_path):
    history = [
        {"epoch": epoch, "gan_loss": 1 + epoch, "discriminator_loss": 0.5, "l1_loss": 0.3 / epoch}
        for epoch in range(1, 9)
    ]
    charts.training_curves(history, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        pixels = np.asarray(image).reshape(-1, 3).astype(int)
    for colour in ((31, 119, 180), (214, 39, 40), (44, 160, 44)):  # matplotlib's tab:blue, tab:red, tab:green
        assert (np.abs(pixels - colour).max(axis=1) < 3).sum() > 100
