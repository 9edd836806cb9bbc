"""What helps: flags that there are, with other values than the run's."""

import re

import pytest
from conftest import small_config

from p2p_keras.cli import eval as eval_command
from p2p_keras.cli import prepare as prepare_command
from p2p_keras.cli import train as train_command
from p2p_keras.doctor.outcomes import CHECKS, Finding, Skipped
from p2p_keras.doctor.remedies import with_remedy
from p2p_keras.presets import make_config
from p2p_keras.workdir.folder import show


def _remedy(name: str, **settings) -> str:
    return with_remedy(Finding(name, "E", "M."), make_config(**settings)).remedy


@pytest.mark.parametrize(
    "settings",
    [
        {"data_dir": "pairs"},  # the best preset
        {"data_dir": "pairs", "preset": "paper", "lambda_l1": 10000.0, "batch_size": 4},
        {"data_dir": "pairs", "discriminator": "patch16", "learning_rate": 0.05, "lambda_l1": 10.0, "decay_epochs": 9},
        {"data_dir": "pairs", "dropout": True},
        {"data_dir": "pairs", "jitter": True},
        {"data_dir": "pairs", "preset": "crossview", "learning_rate": 1e-5, "base_filters": 1},
        {"data_dir": "pairs", "labels": (12,), "eval_every_epochs": 1, "inception": "default"},
        {"data_dir": "pairs", "eval_every_epochs": 1, "statistics": "moving", "crops": "native", "base_filters": 8},
    ],
)
def test_no_remedy_names_what_the_run_has_or_what_is_not_there(settings):
    config = make_config(**settings)
    known = {*train_command.FLAGS, *eval_command.FLAGS, *prepare_command.FLAGS, "checkpoint"}
    for name in CHECKS:
        remedy = _remedy(name, **settings)
        assert remedy.endswith(".")
        for flag, value in re.findall(r"--([a-z_0-9]+)(?:=([\w.]*\w))?", remedy):
            no, plain = flag.startswith("no"), flag.removeprefix("no")
            assert plain in known, remedy
            if value and hasattr(config, plain):
                assert show(config, plain) != value, remedy
            if (
                plain in ("diffaugment", "dropout", "jitter") and name != "misleading crops"
            ):  # which a run without has not
                assert getattr(config, plain) == no, remedy


def test_settings_decide():
    plain, paper = {"data_dir": "pairs"}, {"data_dir": "pairs", "preset": "paper"}
    assert _remedy("checkerboard", **paper) == "A new --workdir with --upsampling=resize and --ema_decay=0.999."
    assert _remedy("checkerboard", **plain).startswith("Take an earlier checkpoint")
    assert _remedy("discriminator won", **paper).endswith("with more pairs, --diffaugment or --discriminator=patch16.")
    assert _remedy("discriminator won", **plain).endswith("with more pairs or --discriminator=patch16.")
    assert "below 0.05 (the paper's is 2e-4)" in _remedy("learning rate too high", **plain, learning_rate=0.05)
    assert "--checkpoint=best" in _remedy("over-fitting", **plain, eval_every_epochs=1)
    assert "--statistics=per_image" in _remedy("statistics shift", **paper, statistics="moving")
    assert "per_image" not in _remedy("statistics shift", **plain)


def test_a_remedy_can_be_followed():
    plain = {"data_dir": "pairs"}
    assert "the paper's" not in _remedy("learning rate too high", **plain, learning_rate=1e-5)
    assert "--base_filters" not in _remedy("over-fitting", **plain, base_filters=1)
    assert "if there is one by now" in _remedy("over-fitting", **plain, eval_every_epochs=50)
    assert "--best_metric=kid" in _remedy(
        "few pictures for FID", **plain, eval_every_epochs=1, inception="default", best_metric="fid"
    )
    assert "--best_metric" not in _remedy("few pictures for FID", **plain, eval_every_epochs=1, inception="default")
    for others in ({}, {"preset": "paper"}):
        assert "--preset=crossview" in _remedy("unrelated pairs", **plain, **others)
    assert "--preset=crossview" not in _remedy("unrelated pairs", **plain, preset="crossview")


@pytest.mark.parametrize(
    ("settings", "jpeg"),
    [
        ({"input_channels": (1,), "output_channels": 3}, True),
        ({"labels": (12,)}, False),  # whose numbers a JPEG would change
        ({"output_bits": 16, "output_channels": 1}, False),
        ({"input_channels": (4,)}, False),  # with alpha
    ],
)
def test_jpeg_only_for_what_it_can_hold(settings, jpeg):
    assert ("JPEG" in _remedy("starved input", data_dir="pairs", **settings)) == jpeg


def test_what_is_no_finding_has_none():
    config = small_config("pairs")
    assert with_remedy(None, config) is None
    assert with_remedy(Skipped("checkerboard", "why"), config) == Skipped("checkerboard", "why")
