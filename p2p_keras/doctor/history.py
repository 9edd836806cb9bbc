"""What the history of a run's epochs tells: functions of the records of `history.jsonl` alone, so that what was said at
an earlier epoch is known again after a restart. No TensorFlow.
"""

import itertools
import math
from collections.abc import Sequence

from p2p_keras.doctor import fid
from p2p_keras.doctor.outcomes import Finding, Outcome, Skipped
from p2p_keras.doctor.pictures import over_fitting

DRAW = math.log(2)  # the discriminator's loss, and GAN loss, where it cannot tell
WINDOW_STEPS = 1000  # what is judged: the newest whole epochs with so many; before, a run is too young
TOO_YOUNG = f"the run is too young: it takes whole epochs with {WINDOW_STEPS:,} steps"

# Means over the window. Healthy runs of facades and of the drawn town have .21 to .54 and 1.4 to 2.4.
WON = 0.05  # the discriminator's loss; eight pairs under --lambda_l1=10000 came to .039
WON_GAN = 3.0  # GAN loss that goes with it: it is as sure of the generated ones (3.7)
# Epochs before which it can know no pair by heart: a run of 12 epochs of 12,000 scenes, whose pictures got better to
# the end, came to .037 and 4.4 when its learning rate had nearly fallen to 0; that of the eight pairs took 180.
BY_HEART = 20
# It wins at any age, and with a higher loss, where L1 of training pairs rises to so many times its least meanwhile. Of
# 36,000 scenes L1 was least in the third epoch; in the seventh it was 1.048 times that, at .116 and 4.1, in the tenth
# 1.074 times, at .018 and 5.4, and the same houses stood in every scene.
WINNING, L1_LOST = 0.15, 1.03
GIVEN_UP = 0.64  # the discriminator's loss; --discriminator=pixel with --diffaugment came to .66 to .67
WORSE_THAN_GUESSING = 1.0  # the discriminator's loss; ln 2 is what it has without looking
# L1 of whole epochs with so many steps each time: a rise and a fall by JUMP among the newest. Healthy runs rise by .010
# at most and fall by .036 (at first); --learning_rate=0.05 rose by .040 and fell by .054.
BLOCK_STEPS, BLOCKS, JUMP = 300, 4, 0.025
WORSE = 1.1  # times the best of the validation pairs' L1


def check_history(history: Sequence[dict]) -> list[Outcome]:
    """Makes all checks that need nothing else: one outcome each.

    Args:
        history: The records of `workdir.history.read_history`.
    """
    names = ("discriminator won", "discriminator gave up", "learning rate too high")
    window = _newest(history)
    if window:
        outcomes = [_check_won(window, history), _check_gave_up(window), _check_rate(window, history)]
    else:
        outcomes = [Skipped(name, TOO_YOUNG) for name in names]
    return [*outcomes, _check_validation(history), _check_fid(history)]


def findings(history: Sequence[dict]) -> list[Finding]:
    """What is wrong by the history, without remedies."""
    return [outcome for outcome in check_history(history) if isinstance(outcome, Finding)]


def ever_found(history: Sequence[dict]) -> set[str]:
    """Names of all that was wrong at some epoch, by the history until then: what a run has said before a restart."""
    return {finding.name for end in range(len(history)) for finding in findings(history[: end + 1])}


def _newest(history: Sequence[dict]) -> list[dict]:
    """The newest whole epochs that together have so many steps; none if there are fewer."""
    return _whole(history, WINDOW_STEPS, 1)


def _whole(history: Sequence[dict], steps: int, times: int) -> list[dict]:
    """The newest epochs that the run's length did not cut short: so many times those that have so many steps, or none.

    It looks at no more of the history, which may be long.
    """
    newest = (record for record in reversed(history) if record["epoch"] % 1 == 0 and record["epoch"])
    found = list(itertools.islice(newest, 1))
    if found:
        count = times * math.ceil(steps / (found[0]["step"] / found[0]["epoch"]))
        found += itertools.islice(newest, count - 1)
        return found[::-1] if len(found) == count else []
    return []


def _check_won(window: Sequence[dict], history: Sequence[dict]) -> Outcome:
    loss, gan_loss = _mean(window, "discriminator_loss"), _mean(window, "gan_loss")
    if loss > WINNING or gan_loss < WON_GAN:
        return None
    least, newest = _least_l1(history, len(window)), _mean(window, "l1_loss")
    spoils = newest >= L1_LOST * least > 0 and _learns_by_l1(window[-1])
    if not spoils and (loss > WON or window[-1]["epoch"] < BY_HEART):
        return None
    risen = f"; L1 of training pairs has risen from {least:.4f} to {newest:.4f}" if spoils else ""
    return Finding(
        "discriminator won",
        f"its loss is {loss:.3f} and GAN loss {gan_loss:.2f}, means over the last {_length(window)}; {DRAW:.3f} is the "
        f"draw of both{risen}",
        "It is sure of every pair, as where it knows the few there are by heart, and so tells the generator nothing "
        "that helps.",
    )


def _least_l1(history: Sequence[dict], epochs: int) -> float:
    """The least mean over so many epochs in a row: of short ones a single one may be low by chance."""
    whole = (record for record in history if record["epoch"] % 1 == 0)
    sums = [0.0, *itertools.accumulate(record["l1_loss"] for record in whole)]
    return min(after - before for before, after in zip(sums, sums[epochs:], strict=False)) / epochs


def _check_gave_up(window: Sequence[dict]) -> Outcome:
    loss = _mean(window, "discriminator_loss")
    if not GIVEN_UP < loss < WORSE_THAN_GUESSING:
        return None
    return Finding(
        "discriminator gave up",
        f"its loss is {loss:.3f}, the mean over the last {_length(window)}; guessing has {DRAW:.3f}",
        "It cannot tell real from generated, so that L1 alone teaches, and pictures are blurred.",
    )


def _check_rate(window: Sequence[dict], history: Sequence[dict]) -> Outcome:
    loss, jumps = _mean(window, "discriminator_loss"), _jumps(history)
    if loss < WORSE_THAN_GUESSING and min(jumps) < JUMP:
        return None
    if loss >= WORSE_THAN_GUESSING:
        evidence = (
            f"the discriminator's loss is {loss:.2f}, the mean over the last {_length(window)}; guessing has {DRAW:.3f}"
        )
    else:
        evidence = f"L1 of training pairs rose by {jumps[0]:.1%} and fell by {jumps[1]:.1%} from one epoch to another"
    return Finding(
        "learning rate too high",
        evidence,
        "Steps overshoot: what one has learnt the next ones undo.",
    )


def _learns_by_l1(record: dict) -> bool:
    """Whether L1 has as much of the generator's loss as the discriminator, or more: not so with a low `lambda_l1`."""
    return (record.get("generator_loss") or 0.0) >= 2 * record["gan_loss"]


def _jumps(history: Sequence[dict]) -> tuple[float, float]:
    """By what share L1 rose and fell at most between blocks of epochs, of the newest blocks; nothing of few blocks.

    Nothing either where L1 is not what the generator learns by.
    """
    newest = _whole(history, BLOCK_STEPS, BLOCKS)
    if not newest or not _learns_by_l1(newest[-1]):
        return 0.0, 0.0
    size = len(newest) // BLOCKS
    means = [_mean(newest[first : first + size], "l1_loss") for first in range(0, len(newest), size)]
    if not all(means):  # of a share of nothing there is nothing to say
        return 0.0, 0.0
    changes = [after / before - 1 for before, after in itertools.pairwise(means)]
    return max(changes), -min(changes)


def _check_validation(history: Sequence[dict]) -> Outcome:
    """By the L1 of the validation pairs: worse than it was, while that of the training pairs has fallen since."""
    name = "over-fitting"
    scored = [record for record in history if "l1" in record.get("evaluation", {})]
    pairs = [[record["evaluation"].get(key) for key in ("split", "fingerprint")] for record in scored]
    scored = [record for record, of in zip(scored, pairs, strict=True) if of == pairs[-1]]  # as the newest
    if len(scored) < 4:
        return Skipped(name, "it takes four evaluations (--eval_every_epochs)")
    best, newest = min(scored, key=lambda record: record["evaluation"]["l1"]), scored[-2:]
    least = min(record["evaluation"]["l1"] for record in newest)
    if least < WORSE * best["evaluation"]["l1"] or newest[-1]["l1_loss"] > best["l1_loss"] / WORSE:
        return None
    split = best["evaluation"]["split"]
    return over_fitting(
        f"L1 on {split}/ was best at step {best['step']}, {best['evaluation']['l1']:.3f}, and is {least:.3f} or more "
        f"in the last two evaluations, while on training pairs it fell from {best['l1_loss']:.3f} to "
        f"{newest[-1]['l1_loss']:.3f}"
    )


def _check_fid(history: Sequence[dict]) -> Outcome:
    newest = next((record["evaluation"] for record in reversed(history) if "evaluation" in record), {})
    return fid.check_count(newest, newest["count"] if type(newest.get("count")) is int else 0)


def _mean(window: Sequence[dict], name: str) -> float:
    return sum(record[name] for record in window) / len(window)


def _length(window: Sequence[dict]) -> str:
    return f"{len(window)} epochs" if len(window) > 1 else "epoch"
