"""Findings from histories: those of measured runs, healthy and ill, and drawn ones at a threshold."""

import math

import numpy as np
import pytest
from conftest import small_config

from p2p_keras.doctor.history import check_history, ever_found, findings
from p2p_keras.doctor.outcomes import CHECKS, Finding, Skipped
from p2p_keras.training.recorder import Recorder
from p2p_keras.workdir.history import read_history


def _history(steps_per_epoch: int, *losses: tuple[float, float, float]) -> list[dict]:
    """Of GAN loss, L1 and the discriminator's loss in each epoch."""
    names = ("gan_loss", "l1_loss", "discriminator_loss")
    return [
        {
            "step": epoch * steps_per_epoch,
            "epoch": float(epoch),
            **dict(zip(names, row, strict=True)),
            "generator_loss": row[0] + 100 * row[1],
        }
        for epoch, row in enumerate(losses, start=1)
    ]


def _scored(*scores: tuple[float, float], **about) -> list[dict]:
    """Of the validation pairs' L1 and that of the training pairs."""
    history = _history(10, *((1.0, train_l1, 0.5) for _, train_l1 in scores))
    for record, (l1, _) in zip(history, scores, strict=True):
        record["evaluation"] = {"split": "val", "fingerprint": "f", "count": 40, "l1": l1, **about}
    return history


# As they were measured: docs/doctor.md says of which runs.
HEALTHY = {
    "facades, 256x256, 64 filters, DiffAugment": _history(
        400, (0.93, 0.337, 0.667), (1.35, 0.330, 0.514), (1.73, 0.329, 0.427), (1.93, 0.328, 0.400)
    ),
    "facades, 128x128, 32 filters": _history(
        360, (1.83, 0.330, 0.365), (2.51, 0.332, 0.260), (2.38, 0.335, 0.288), (2.43, 0.332, 0.293)
    ),
    "facades, 128x128, 32 filters, DiffAugment": _history(
        360, (0.93, 0.324, 0.626), (1.51, 0.317, 0.448), (1.69, 0.318, 0.413), (1.82, 0.315, 0.370)
    ),
    "facades, 64x64, 8 filters, learning rate 0.005": _history(
        360, (1.279, 0.3151, 0.482), (1.824, 0.3139, 0.371), (1.944, 0.3146, 0.354), (1.946, 0.3131, 0.390)
    ),
    "facades, 64x64, 8 filters": _history(
        360, (0.97, 0.313, 0.492), (1.80, 0.302, 0.202), (2.01, 0.304, 0.193), (1.81, 0.303, 0.248)
    ),
    "town, 12,000 scenes at 128x128, 16 filters, DiffAugment, the learning rate falling to 0": _history(
        1500,
        (1.65, 0.175, 0.409),
        (1.95, 0.155, 0.352),
        (2.20, 0.149, 0.306),
        (2.34, 0.145, 0.285),
        (2.62, 0.144, 0.240),
        (2.77, 0.143, 0.244),
        (2.99, 0.143, 0.224),
        (3.11, 0.142, 0.181),
        (3.36, 0.142, 0.151),
        (3.73, 0.141, 0.105),
        (4.12, 0.140, 0.064),
        (4.40, 0.139, 0.037),
    ),
}
ILL = {
    "discriminator gave up": _history(
        360, (0.694, 0.313, 0.685), (0.711, 0.300, 0.670), (0.728, 0.297, 0.658), (0.744, 0.294, 0.647)
    ),
    "learning rate too high": _history(
        360, (1.273, 0.3548, 0.606), (1.484, 0.3362, 0.554), (1.678, 0.3496, 0.526), (1.788, 0.3306, 0.519)
    ),
    # The last 125 of its 250 epochs by their means; those before are drawn.
    "discriminator won": _history(8, *[(0.7, 0.3, 0.6)] * 25, *[(3.67, 0.185, 0.039)] * 125),
}
TOWN = _history(  # 36,000 scenes at 128x128, 16 filters, without DiffAugment and dropout
    4500,
    (2.11, 0.1581, 0.306),
    (2.70, 0.1408, 0.236),
    (3.13, 0.1399, 0.195),
    (3.48, 0.1414, 0.162),
    (3.68, 0.1425, 0.144),
    (3.90, 0.1437, 0.140),
    (4.10, 0.1466, 0.116),
    (4.24, 0.1475, 0.095),
    (4.72, 0.1493, 0.050),
    (5.36, 0.1502, 0.018),
)


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_runs_have_nothing(name):
    history = HEALTHY[name]
    assert [findings(history[:end]) for end in range(len(history) + 1)] == [[]] * (len(history) + 1)
    assert check_history(history)[:3] == [None] * 3


@pytest.mark.parametrize("name", ILL)
def test_ill_runs_have_their_illness_and_no_other(name):
    assert [finding.name for finding in findings(ILL[name])] == [name]


def test_a_discriminator_that_spoils_what_l1_has_reached_has_won_early():
    said = [[finding.name for finding in findings(TOWN[:end])] for end in range(1, 11)]
    assert said == [[]] * 6 + [["discriminator won"]] * 4
    assert "L1 of training pairs has risen from 0.1399 to 0.1466" in findings(TOWN[:7])[0].evidence


def test_a_discriminator_spoils_nothing_in_an_epoch_cut_short_or_where_l1_has_no_weight():
    history = _history(4500, *[(3.3, 0.150, 0.12)] * 4)
    cut = {**history[-1], "step": 18001, "epoch": 18001 / 4500, "l1_loss": 0.12}
    assert findings([*history, cut]) == []
    risen = _history(4500, (3.3, 0.12, 0.12), *[(3.3, 0.150, 0.12)] * 4)
    assert [finding.name for finding in findings(risen)] == ["discriminator won"]
    assert findings([{**record, "generator_loss": record["gan_loss"]} for record in risen]) == []


def test_one_epoch_that_was_low_by_chance_is_no_measure():
    losses = [(3.5, 0.3 + 0.03 * (-1) ** i, 0.1) for i in range(150)]  # by 10 % up and down
    assert findings(_history(8, *losses)) == []
    risen = [(3.5, 0.32, 0.1)] * 125
    assert [finding.name for finding in findings(_history(8, *losses, *risen))] == ["discriminator won"]


def test_a_run_is_too_young_until_its_whole_epochs_have_a_thousand_steps():
    """Of the same losses, however long an epoch is; a last epoch that was cut short does not count."""
    for steps_per_epoch, epochs in ((1, 1000), (360, 3), (1000, 1), (55_000, 1)):
        history = _history(steps_per_epoch, *[(0.7, 0.3, 0.69)] * epochs)
        assert [finding.name for finding in findings(history)] == ["discriminator gave up"]
        cut = [*history[:-1], {**history[-1], "step": history[-1]["step"] - 1, "epoch": epochs - 0.5}]
        outcomes = check_history(cut)
        assert all(isinstance(outcome, Skipped) and "too young" in outcome.reason for outcome in outcomes[:3])


def test_a_discriminator_worse_than_guessing_is_a_sign_of_its_own():
    (found,) = findings(_history(1000, (1.0, 0.3, 1.2)))
    assert found.name == "learning rate too high"
    assert "loss is 1.20, the mean over the last epoch; guessing has 0.693" in found.evidence


def test_l1_that_nothing_learns_by_may_jump():
    jumping = ILL["learning rate too high"]
    assert findings(jumping)
    free = [{**record, "generator_loss": record["gan_loss"] + record["l1_loss"]} for record in jumping]  # lambda_l1=1
    assert findings(free) == []


def test_l1_of_nothing_at_all_does_not_jump():
    """Of a history that somebody has written; a training that failed over it would be the worse for the doctor."""
    assert findings([{**record, "l1_loss": 0.0} for record in HEALTHY["facades, 64x64, 8 filters"]]) == []


def test_there_is_an_outcome_for_each_of_the_first_checks():
    assert [outcome.name for outcome in check_history([])] == list(CHECKS[:5])


def test_each_thing_is_said_once_when_it_appears_also_after_a_restart():
    """It goes away and comes back; whatever was said at an earlier epoch is known from the history alone."""
    well, ill = (2.0, 0.3, 0.3), (0.7, 0.3, 0.69)
    history = _history(1000, well, ill, ill, well, ill)
    restarted = [
        {finding.name for finding in findings(history[:end])} - ever_found(history[: end - 1]) for end in range(1, 6)
    ]
    assert restarted == [set(), {"discriminator gave up"}, set(), set(), set()]
    assert [len(findings(history[:end])) for end in range(1, 6)] == [0, 1, 1, 0, 1]


def test_over_fitting_by_the_evaluations():
    rising = _scored((0.35, 0.33), (0.30, 0.30), (0.34, 0.22), (0.34, 0.2))
    (found,) = findings(rising)
    assert found.name == "over-fitting"
    assert "best at step 20, 0.300, and is 0.340 or more in the last two evaluations" in found.evidence
    assert "from 0.300 to 0.200" in found.evidence
    assert findings(_scored((0.35, 0.33), (0.30, 0.30), (0.34, 0.30), (0.34, 0.29))) == []  # both got worse
    assert findings(_scored((0.35, 0.33), (0.30, 0.30), (0.34, 0.22), (0.31, 0.2))) == []  # once
    assert findings(_scored((0.35, 0.33), (0.30, 0.30), (0.32, 0.22), (0.32, 0.2))) == []  # by less than a tenth
    others = _scored((0.1, 0.33), (0.1, 0.33), fingerprint="other")
    assert findings([*others, *_scored((0.34, 0.22), (0.34, 0.2), (0.34, 0.2), (0.34, 0.2))]) == []


@pytest.mark.parametrize(
    ("metrics", "found"),
    [
        ({"fid": 50.0, "count": 2048}, False),
        ({"fid": 50.0, "count": 2047}, True),
        ({"fid@768": 2.0}, True),
        ({"fid@features": 2.0}, False),
        ({}, False),
    ],
)
def test_few_pictures_for_fid(metrics, found):
    assert [finding.name for finding in findings(_scored((0.3, 0.3), **metrics))] == ["few pictures for FID"] * found


def test_the_recorder_says_it_after_the_epochs_line_and_not_again_after_a_restart(tmp_path):
    """Of 50 epochs of 20 steps each, the last is the first with a thousand steps before it."""
    told, losses = [], np.tile([30.0, 5.0, 0.25, 0.01], (20, 1))

    def run(first_epoch: int, last_epoch: int) -> None:
        config = small_config(tmp_path)
        with Recorder(tmp_path, config, np.zeros(4), 20 * first_epoch, 20, 1200, told.append) as recorder:
            for epoch in range(first_epoch, last_epoch):
                recorder.add_losses(20 * epoch, losses, secs=0.1)
                recorder.end_epoch(20 * epoch + 20)

    run(0, 51)
    run(51, 53)
    assert len(read_history(tmp_path)) == 53
    said = [number for number, line in enumerate(told) if line.startswith("Doctor: ")]
    assert said == [50]  # after the lines of 50 epochs
    assert told[50].startswith("Doctor: discriminator won: its loss is 0.010 and GAN loss 5.00, means over the last 50")
    assert f"{math.log(2):.3f} is the draw" in told[50]


def test_a_finding_is_one_line():
    assert Finding("n", "E", "M.", "R.").in_one_line == "n: E. M. R."
