import numpy as np
from PIL import Image

from p2p_keras.images import charts


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


def _pixels(path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).reshape(-1, 3).astype(int)


def test_evaluations_join_the_training_curves(tmp_path):
    history = [
        {"epoch": e, "gan_loss": 1, "discriminator_loss": 0.5, "l1_loss": 0.3 / e, "evaluation": evaluation}
        for e, evaluation in enumerate([None, {"split": "val", "l1": 0.2, "kid@768": 0.01}] * 4, start=1)
    ]
    charts.training_curves(history, tmp_path / "curves.png")
    for colour in ((255, 127, 14), (148, 103, 189)):  # tab:orange for L1 on val, tab:purple for KID
        assert (np.abs(_pixels(tmp_path / "curves.png") - colour).max(axis=1) < 3).sum() > 100


def test_metric_curves_have_a_panel_a_metric_and_a_colour_a_run(tmp_path):
    def records(offset: float, **more: float) -> list[dict]:
        return [
            {"epoch": e, "count": 9, "pictures": {"split": "test"}, "metrics": {"l1": offset / e, "psnr": e, **more}}
            for e in range(1, 6)
        ]

    charts.metric_curves({"a2s": records(1.0)}, tmp_path / "two.png")
    charts.metric_curves({"a2s": records(1.0, ssim=0.5), "s2a": records(2.0)}, tmp_path / "three.png")
    with Image.open(tmp_path / "two.png") as two, Image.open(tmp_path / "three.png") as three:
        assert three.width * 2 == two.width * 3
    for path, orange in (("two.png", False), ("three.png", True)):
        found = (np.abs(_pixels(tmp_path / path) - (255, 127, 14)).max(axis=1) < 3).sum()
        assert found > 100 if orange else found == 0


def test_one_checkpoint_is_enough_for_a_chart(tmp_path):
    record = {"epoch": 3, "count": 9, "pictures": {"split": "val"}, "metrics": {"kid@768": 0.1, "kid_std@768": 0.01}}
    charts.metric_curves({"a2s": [record]}, tmp_path / "curves.png")
    assert (np.abs(_pixels(tmp_path / "curves.png") - (31, 119, 180)).max(axis=1) < 3).sum() > 5
