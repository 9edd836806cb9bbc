"""How far a generated label map is from its own target: pixel accuracy, mean intersection over union, L1.

All of them are functions of a confusion matrix, which counts pixels by what they are and what they were taken for.
Matrices add up: the sum over images is that of all images together.
"""

import numpy as np

from p2p_keras.errors import UserError


def confusion(generated: np.ndarray, reference: np.ndarray, classes: int) -> np.ndarray:
    """Counts the pixels of each image by their class.

    Args:
        generated: uint8 (..., H, W, 1), classes below `classes`.
        reference: The same shape.
        classes: K.

    Returns:
        int64 (..., K, K): [i, j] is the number of pixels of class i in the reference that are generated as class j.

    Raises:
        UserError: The maps are not of that form, or have other classes.
    """
    _check(generated, reference, classes)
    places = generated.shape[:-3]
    pairs = (reference.astype(np.int64) * classes + generated).reshape(-1, np.prod(generated.shape[-3:], dtype=int))
    image = np.arange(len(pairs))[:, np.newaxis] * classes**2
    counts = np.bincount((image + pairs).ravel(), minlength=len(pairs) * classes**2)
    return counts.reshape(*places, classes, classes)


def pixel_accuracy(confusion: np.ndarray) -> np.ndarray:
    """Share of the pixels that have their class: float64 (...) of matrices (..., K, K); 1 is equal."""
    return np.trace(confusion, axis1=-2, axis2=-1) / confusion.sum(axis=(-2, -1))


def mean_iou(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union of each class, averaged over the classes: float64 (...) of (..., K, K); 1 is equal.

    Source: the "mean IU" of Long et al. 2015 (arXiv 1411.4038), section 5, which also scores pix2pix's labels in its
    table 6. There it is of the matrix of all images together. A class that is in neither map has no share in the
    mean.
    """
    intersection = np.diagonal(confusion, axis1=-2, axis2=-1)
    union = confusion.sum(axis=-1) + confusion.sum(axis=-2) - intersection
    ratios = np.divide(intersection, union, out=np.zeros(union.shape), where=union > 0)
    return ratios.sum(axis=-1) / (union > 0).sum(axis=-1)


def l1(confusion: np.ndarray) -> np.ndarray:
    """Mean absolute difference of the maps as the networks see them, -1 and 1 in a channel for each class.

    A wrong pixel differs by 2 in two of K channels, so it is 4 / K times the share of wrong pixels: on the scale of the
    training loss, but of the class chosen and not of how surely.
    """
    return (1.0 - pixel_accuracy(confusion)) * 4.0 / confusion.shape[-1]


def _check(generated: np.ndarray, reference: np.ndarray, classes: int) -> None:
    for role, image in (("generated", generated), ("reference", reference)):
        if image.dtype != np.uint8 or image.ndim < 3 or image.shape[-1] != 1:
            raise UserError(
                f"Label maps are uint8 (..., height, width, 1). Received {role}: {image.dtype} {image.shape}. "
                "p2p_keras.images.codec.from_unit_range brings [-1, 1] there."
            )
        if image.size and image.max() >= classes:
            raise UserError(
                f"With {classes} classes the highest is {classes - 1}. Received {role}: {image.max()}. "
                "Give the number of classes that there are."
            )
    if generated.shape != reference.shape:
        raise UserError(
            f"Both maps of a pair have one size. Received: generated {generated.shape}, "
            f"reference {reference.shape}. Resize one."
        )
