"""The values that are handed to matplotlib, by panel and curve; what it draws of them is its own affair."""

import math

import numpy as np
from matplotlib.axes import Axes
from PIL import Image

from p2p_keras.images import charts
from p2p_keras.metrics.table import BY_NAME, METRICS


def _curves(axes: Axes) -> dict[str, list[tuple[float, float]]]:
    """Every line of a panel under its name in the legend: the points that it goes through."""
    return {line.get_label(): list(zip(*map(list, line.get_data()), strict=True)) for line in axes.lines}


def _legend(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def _history(*evaluations: dict | None) -> list[dict]:
    return [
        {"epoch": e, "gan_loss": 1 + e, "discriminator_loss": 0.5, "l1_loss": 0.3 / e, "evaluation": evaluation}
        for e, evaluation in enumerate(evaluations, start=1)
    ]


def test_losses_are_drawn_over_the_epochs():
    adversarial, reconstruction = charts.training_figure(_history(None, None, None)).axes
    curves = _curves(adversarial)
    ln2 = curves.pop("ln 2: cannot tell")
    assert curves == {"generator (GAN)": [(1, 2), (2, 3), (3, 4)], "discriminator": [(1, 0.5), (2, 0.5), (3, 0.5)]}
    np.testing.assert_allclose(ln2, [(0, math.log(2)), (1, math.log(2))], atol=1e-4)  # from side to side, four digits
    assert _legend(adversarial) == ["generator (GAN)", "discriminator", "ln 2: cannot tell"]
    assert adversarial.get_ylim() == (0, 1.1 * 4)  # all of it, from 0 on
    (l1,) = _curves(reconstruction).values()
    assert l1 == [(1, 0.3), (2, 0.15), (3, 0.3 / 3)]
    assert reconstruction.get_ylim() == (0, 1.1 * 0.3)
    assert reconstruction.get_legend() is None
    assert len({line.get_color() for axes in (adversarial, reconstruction) for line in axes.lines}) == 4


def test_evaluations_join_the_training_curves():
    scored = {"split": "val", "l1": 0.4, "kid@768": 0.01, "fid@768": 7}
    figure = charts.training_figure(_history(None, scored, None, {**scored, "l1": 0.2, "kid@768": 0.005}))
    _, reconstruction, kid = figure.axes
    curves = _curves(reconstruction)
    assert curves["val"] == [(2, 0.4), (4, 0.2)]
    assert [y for _, y in curves["training"]] == [0.3, 0.15, 0.3 / 3, 0.3 / 4]
    assert reconstruction.get_ylim() == (0, 1.1 * 0.4)
    assert list(_curves(kid).values()) == [[(2, 10), (4, 5)]]
    assert kid.get_title() == "KID@768 x1000 on val, lower is better"


def test_a_curve_is_of_one_split():
    """A run that had no val/ at first was scored on test/: one line through both would compare two sets of images."""
    test, val = {"split": "test", "l1": 0.2, "kid": 0.001}, {"split": "val", "l1": 0.4, "kid": 0.002}
    _, reconstruction, kid = charts.training_figure(_history(test, val, val)).axes
    assert _curves(reconstruction)["val"] == [(2, 0.4), (3, 0.4)]
    assert list(_curves(kid).values()) == [[(2, 2), (3, 2)]]


def test_without_kid_fid_is_drawn_and_a_gap_is_skipped():
    figure = charts.training_figure(_history({"split": "val", "l1": 0.4, "fid": 7}, {"split": "val", "l1": 0.3}))
    assert list(_curves(figure.axes[2]).values()) == [[(1, 7)]]
    assert figure.axes[2].get_title() == "FID on val, lower is better"


def _record(epoch: float, count: int = 1234, **metrics: float) -> dict:
    return {"epoch": epoch, "count": count, "pictures": {"split": "test"}, "metrics": metrics}


def test_each_metric_has_a_panel_and_each_run_a_curve():
    a2s = [_record(1, l1=0.5, psnr=10), _record(2, l1=0.25)]
    s2a = [_record(3, count=9, psnr=12, ssim=0.5)]
    figure = charts.metric_figure({"a2s": a2s, "s2a": s2a})
    assert figure.get_suptitle() == "a2s: 1,234 images of test, s2a: 9 images of test"
    panels = {axes.get_title(): _curves(axes) for axes in figure.axes}
    assert panels == {
        "L1, [-1, 1], lower is better": {"a2s": [(1, 0.5), (2, 0.25)], "s2a": []},
        "PSNR, dB, higher is better": {"a2s": [(1, 10)], "s2a": [(3, 12)]},
        "SSIM, higher is better": {"a2s": [], "s2a": [(3, 0.5)]},
    }
    assert _legend(figure.axes[0]) == ["a2s", "s2a"]
    for axes in figure.axes:
        assert axes.get_xlim() == (0, 1.05 * 3)
        assert [line.get_color() for line in axes.lines] == ["C0", "C1"]  # of a run the same in every panel
    assert charts.metric_figure({"a2s": a2s}).axes[0].get_legend() is None


def test_another_reference_is_named():
    record = _record(1, l1=0.5)
    record["pictures"]["reference"] = {"split": "train", "count": 55_000, "fingerprint": "f"}
    figure = charts.metric_figure({"a2s": [record]})
    assert figure.get_suptitle().replace("\n", " ") == "a2s: 1,234 images of test (FID, KID against train)"
    both = charts.metric_figure({"a2s": [record], "s2a": [record]})  # what is the same of all is said once
    assert both.get_suptitle().replace("\n", " ") == "1,234 images of test (FID, KID against train)"


def test_epoch_0_alone_is_drawn_too():
    """That of an imported generator; matplotlib warns of an axis from 0 to 0."""
    (panel,) = charts.metric_figure({"AtoB": [_record(0, l1=0.5)]}).axes
    assert (_curves(panel), panel.get_xlim()) == ({"AtoB": [(0, 0.5)]}, (0, 1))


def test_a_spread_is_a_band_around_its_curve():
    kid = [(1, 0.25, 0.125), (2, 0.5, 0.25)]
    records = [_record(epoch, **{"kid@768": mean, "kid_std@768": spread}) for epoch, mean, spread in kid]
    (axes,) = charts.metric_figure({"a2s": records}).axes
    assert axes.get_title() == "KID@768 x1000, lower is better"
    (band,) = axes.collections
    assert {tuple(point) for point in band.get_paths()[0].vertices} == {(1, 125), (1, 375), (2, 250), (2, 750)}


def test_every_metric_that_is_scored_has_its_place_and_no_panel_is_empty():
    figure = charts.metric_figure({"a2s": [_record(1, **dict.fromkeys(BY_NAME, 1.0))]})
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:2] == ["L1, [-1, 1], lower is better", "PSNR, dB, higher is better"]
    assert titles[-2:] == ["KID x1000, lower is better", "Inception Score, higher is better"]
    assert len(titles) == sum(bool(metric.chart_title) for metric in METRICS)
    scales = [metric.scale for metric in METRICS if metric.chart_title]
    assert [_curves(axes) for axes in figure.axes] == [{"a2s": [(1, scale)]} for scale in scales]


def test_a_chart_is_written_as_an_image_of_its_size(tmp_path):
    charts.training_curves(_history(None, None), tmp_path / "a.png")
    charts.metric_curves({"a2s": [_record(1, l1=0.5, psnr=10)]}, tmp_path / "b.png")
    sizes = []
    for name in "ab":
        with Image.open(tmp_path / f"{name}.png") as image:
            sizes.append(image.size)
            assert len(image.getcolors(10**6)) > 20  # curves and letters, with soft edges
    assert sizes == [(1080, 384), (768, 360)]  # 120 dots an inch
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


def test_names_of_panels_are_no_formulas(tmp_path):
    """Between two dollar signs matplotlib read TeX, and failed where that was none."""
    record = {"step": 1, "epoch": 1.0, "count": 3, "metrics": {"l1": 0.1}, "pictures": {"split": "val"}}
    charts.metric_curves({"a$\\frac$b": [record]}, tmp_path / "a.png")
    charts.metric_curves({"a-b": [record]}, tmp_path / "b.png")
    wide, narrow = ((np.asarray(Image.open(tmp_path / name)) < 128).sum() for name in ("a.png", "b.png"))
    assert wide > narrow  # its name is longer
