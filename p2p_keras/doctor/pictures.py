"""What is wrong with generated pictures, by the arrays alone: float32 (N, H, W, C) in [-1, 1]. No TensorFlow."""

import numpy as np

from p2p_keras.doctor.outcomes import Finding, Outcome, Skipped
from p2p_keras.metrics.checkerboard import checkerboard

FEWEST = 8  # pictures; of fewer, means over them say little

# Measured on facades and the drawn town, after 1,000 steps and more: see docs/doctor.md.
ALIKE = 0.15  # of the targets' deviation; healthy .25 to .6, with the targets of other inputs .09
# L1 to the own target, of that to other pairs' targets: facades .80 to .93, the town .30 to .37, facades with labels of
# other pairs .993.
STRANGER = 0.98
CLIP = 0.7  # L1 between targets, of that to the own target: facades 1.3, pictures as sharp that have nothing to do 1.0
_OTHERS = range(2, 8)  # pairs further on; not the next, with which whoever mixed them up may have put a target
CHECKERBOARD = 18.0  # dB; the paper's settings come to 15 at first, and the grid is faint
COLOUR = 0.1  # of [-1, 1]: 13 of 255 levels
CONTRAST = 1.25  # times; moving averages at batch 1 come to 1.03 to 1.08
LEAST_CONTRAST = 0.02  # by which they differ: 3 of 255 levels; of pictures that are nearly flat a ratio says nothing
# L1 of whole training images, of that of crops as in training: facades 1.04 to 1.08, eight pairs by heart 1.3, the
# town, whose views differ, 1.6 to 1.8.
CROPS = 1.4
OVER_FITTING = 1.5  # times; healthy 1.04 to 1.1, eight pairs by heart 1.9
# Without jitter training pairs are seen just as they are: the demo has 1.7 at its end, 360 facades at 64x64 have 3
# after 222 epochs, while FID and L1 of other pairs still fall; eight pairs by heart 4.
OVER_FITTING_UNCROPPED = 3.5
CERTAIN = 3.0  # standard errors


def check_alike(generated: np.ndarray, target: np.ndarray) -> Outcome:
    """Compares how far pictures of different inputs differ with how far their targets do.

    Args:
        generated: Of different inputs.
        target: Theirs.
    """
    name = "outputs alike"
    if len(generated) < FEWEST:
        return Skipped(name, f"it takes {FEWEST} pairs, there are {len(generated)}")
    ours, theirs = _deviation(generated), _deviation(target)
    if theirs < 0.02:  # 3 of 255 levels
        return Skipped(name, f"the targets are alike as well: they deviate by {theirs:.3f}")
    if ours >= ALIKE * theirs:
        return None
    return Finding(
        name,
        f"pictures of {len(generated)} inputs deviate from their mean by {ours:.3f}, their targets by {theirs:.3f}",
        "The generator gives nearly the same picture whatever its input, as where inputs and targets do not belong "
        "together, or its weights have died.",
    )


def check_related(generated: np.ndarray, target: np.ndarray) -> Outcome:
    """Compares how well pictures fit their own targets with how well they fit those of other pairs.

    Args:
        generated: Of training pairs: of others a generator that has learnt its pairs by heart may know nothing.
        target: Theirs.
    """
    name = "unrelated pairs"
    if len(generated) < FEWEST:
        return Skipped(name, f"it takes {FEWEST} pairs, there are {len(generated)}")
    own = np.abs(generated - target).mean()
    rolled = [np.roll(target, -by, axis=0) for by in _OTHERS]
    others = np.mean([np.abs(generated - other).mean() for other in rolled])
    apart = np.mean([np.abs(target - other).mean() for other in rolled])
    if apart < CLIP * own:  # as the pictures of one clip, which fit each other whatever is drawn
        return Skipped(name, f"the targets are more like each other (L1 {apart:.3f}) than the pictures are like them")
    if own <= STRANGER * others:
        return None
    return Finding(
        name,
        f"pictures of {len(generated)} training pairs are no more like their own targets (L1 {own:.4f}) than like "
        f"those of other pairs ({others:.4f})",
        "What is drawn has nothing to do with the input, as where inputs and targets do not belong together.",
    )


def check_crops(whole_l1: np.ndarray, cropped_l1: np.ndarray) -> Outcome:
    """Compares L1 of training pairs as inference sees them with that of crops of them, as in training.

    Args:
        whole_l1: Of each pair, (N,), on the [-1, 1] scale, by the inference contract.
        cropped_l1: The same of crops, (M,).
    """
    name = "misleading crops"
    if min(len(whole_l1), len(cropped_l1)) < FEWEST:
        return Skipped(name, f"it takes {FEWEST} training pairs, there are {len(whole_l1)}")
    whole, cropped = whole_l1.mean(), cropped_l1.mean()
    if whole < CROPS * cropped or whole - cropped < CERTAIN * _error(whole_l1, cropped_l1):
        return None
    return Finding(
        name,
        f"L1 of {len(whole_l1)} training pairs is {whole:.3f} as at inference, and {cropped:.3f} enlarged and cropped "
        "as in training",
        "What is learnt of crops does not hold for whole images, as where inputs and targets are different views: the "
        "same window shows other things of each.",
    )


def check_checkerboard(generated: np.ndarray, target: np.ndarray) -> Outcome:
    """Compares the spectral peaks at periods of 2, 4 and 8 pixels with those of the targets."""
    name = "checkerboard"
    if len(generated) < FEWEST:
        return Skipped(name, f"it takes {FEWEST} pictures, there are {len(generated)}")
    if min(generated.shape[1:3]) < 64:
        return Skipped(name, f"it takes pictures of 64x64, these are of {generated.shape[1]}x{generated.shape[2]}")
    ours, theirs = checkerboard(generated), checkerboard(target)
    if ours - theirs < CHECKERBOARD:
        return None
    return Finding(
        name,
        f"at periods of 2, 4 or 8 pixels the spectrum of generated pictures stands out by {ours:.1f} dB, of targets by "
        f"{theirs:.1f} dB",
        "The layers that enlarge have left a fine grid, which shows in dark and even areas.",
    )


def check_statistics(inference: np.ndarray, training: np.ndarray) -> Outcome:
    """Compares colour and contrast of the same pictures by the statistics of inference and by those of training.

    Args:
        inference: By the run's inference contract.
        training: Of the same inputs with the statistics of a batch as in training, and no noise.
    """
    name = "statistics shift"
    colours = np.abs(inference.mean(axis=(0, 1, 2)) - training.mean(axis=(0, 1, 2)))
    contrasts = inference.std(axis=(1, 2)).mean(), training.std(axis=(1, 2)).mean()
    least, most = sorted(contrasts)
    if colours.max() < COLOUR and (most < CONTRAST * least or most - least < LEAST_CONTRAST):
        return None
    return Finding(
        name,
        f"mean colour differs by {colours.max():.3f} (of -1 to 1), contrast is {contrasts[0]:.3f} at inference and "
        f"{contrasts[1]:.3f} by a batch's own statistics",
        "What inference shows, in samples, evaluations and exports, is not what was trained: the averages of batch "
        "normalisation do not fit the batches.",
    )


def check_over_fitting(train_l1: np.ndarray, other_l1: np.ndarray, other: str, cropped: bool = True) -> Outcome:
    """Compares L1 of pairs that were trained on with that of pairs that were not.

    Args:
        train_l1: Of each pair, (N,), on the [-1, 1] scale, neither jittered nor with noise.
        other_l1: The same of pairs that were held back, (M,).
        other: Their split.
        cropped: Whether training sees crops of the pairs.
    """
    name = "over-fitting"
    if min(len(train_l1), len(other_l1)) < FEWEST:
        return Skipped(name, f"it takes {FEWEST} pairs each, there are {len(train_l1)} and {len(other_l1)} of {other}")
    ours, theirs = train_l1.mean(), other_l1.mean()
    least = OVER_FITTING if cropped else OVER_FITTING_UNCROPPED
    if theirs < least * ours or theirs - ours < CERTAIN * _error(train_l1, other_l1):
        return None
    return over_fitting(f"L1 is {ours:.3f} on {len(train_l1)} training pairs and {theirs:.3f} on those of {other}")


def over_fitting(evidence: str) -> Finding:
    """The finding, by whatever evidence."""
    return Finding(
        "over-fitting",
        evidence,
        "The generator knows the training pairs by heart, and what it has learnt since then does not help with others.",
    )


def _error(one: np.ndarray, other: np.ndarray) -> float:
    """The standard error of the difference of two means."""
    return float(np.hypot(one.std() / np.sqrt(len(one)), other.std() / np.sqrt(len(other))))


def _deviation(images: np.ndarray) -> float:
    """From the mean of all images, pixel by pixel: the root of the mean variance."""
    return float(np.sqrt(images.astype(np.float64).var(axis=0).mean()))
