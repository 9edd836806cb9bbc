"""One generator x one list of pairs -> numbers. Images stream through in batches; only features and numbers stay."""

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from p2p_keras.errors import UserError
from p2p_keras.evaluation.lanes import Lane, each_in_order, gather, own_rows
from p2p_keras.evaluation.split import Split, batches, fingerprint
from p2p_keras.images import codec
from p2p_keras.images.kinds import Kind
from p2p_keras.metrics import distribution, labels
from p2p_keras.metrics.inception import RESIZING, Extractor
from p2p_keras.metrics.table import FEWEST_IMAGES, INCEPTION_SCORE_PARTS, METRICS
from p2p_keras.system.files import whole_file
from p2p_keras.system.hosts import ALONE, Hosts
from p2p_keras.system.urls import changed_at

PAIRED = {metric.name: metric.of_images for metric in METRICS if metric.of_images}
LABELS = {metric.name: metric.of_label_maps for metric in METRICS if metric.of_label_maps}
NOT_OF_LABELS = "the targets are label maps: their numbers are classes, not brightness"
ENOUGH_IMAGES = 10_000  # below, the literature takes no FID at face value


class Scores(NamedTuple):
    """What one pass over the pairs leaves."""

    per_image: dict[str, np.ndarray]  # metric -> float64 (N,)
    features: np.ndarray | None  # float32 (N, d) of the generated images; None without an extractor
    logits: np.ndarray | None  # float32 (N, classes)
    confusion: np.ndarray | None = None  # int64 (K, K), of all images together; None if they are no label maps


class _Scored(NamedTuple):
    """A batch of them."""

    first: int  # of all pairs
    generated: np.ndarray
    values: dict[str, np.ndarray]
    features: np.ndarray | None
    logits: np.ndarray | None
    confusion: np.ndarray | None  # (B, K, K)


class Reference(NamedTuple):
    """The target images as the extractor sees them."""

    features: np.ndarray  # float32 (N, d)
    statistics: distribution.Statistics | None  # of fewer than `FEWEST_IMAGES` there are none


class Summary(NamedTuple):
    """Numbers, and what should be read beside them."""

    metrics: dict[str, float]
    absent: dict[str, str]  # metric -> why it is not there
    cautions: list[str]


def score_images(
    lanes: Sequence[Lane],
    split: Split,
    batch_size: int,
    on_batch: Callable[[int, np.ndarray], None] = lambda first, generated: None,
    hosts: Hosts = ALONE,
) -> Scores:
    """Generates each pair's image, quantises it to what a file of the target's kind holds, and compares the two.

    Args:
        lanes: What computes on this host. Each `generate` is the generator by the run's inference contract; the
            features are of the images by `codec.to_rgb`.
        split: The pairs, all of them.
        batch_size: Images at a time on each lane.
        on_batch: Called, in order, with the index of a batch's first image and its generated images, as
            `codec.from_unit_range` gives them: (B, H, W, 3) of uint8 for 8-bit RGB. Those of this host alone.
        hosts: Which share the pairs out.

    Returns:
        Of all pairs, on every host.

    Raises:
        UserError: A generated image or its features are not finite; names its file.
    """
    kind, rows = split.reading.target_kind, own_rows(hosts, len(split.files), batch_size)
    confusion = np.zeros((kind.channels,) * 2, np.int64) if kind.labels else None

    def score(lane: Lane, batch: tuple[int, tf.Tensor, tf.Tensor]) -> _Scored:
        first, input_image, target_image = batch
        raw = lane.generate(input_image).numpy()
        names = split.names[first : first + len(raw)]
        _check_finite(raw, names, "generated image")
        generated, reference = codec.from_unit_range(raw, kind), codec.from_unit_range(target_image, kind)
        counts = features = logits = None
        if kind.labels:
            counts = labels.confusion(generated=generated, reference=reference, classes=kind.channels)
            values = {name: metric(counts) for name, metric in LABELS.items()}
        else:
            values = {name: metric(generated=generated, reference=reference) for name, metric in PAIRED.items()}
        if lane.extractor:
            features, logits = lane.extractor.run(codec.to_rgb(generated, kind))
            _check_finite(features, names, "features of the generated image")
        return _Scored(first, generated, values, features, logits, counts)

    values, features, logits = {}, [], []
    for scored in each_in_order(lanes, score, batches(split, rows, batch_size)):
        for name, batch in scored.values.items():
            values.setdefault(name, []).append(batch)
        features += [] if scored.features is None else [scored.features]
        logits += [] if scored.logits is None else [scored.logits]
        if confusion is not None:
            confusion += scored.confusion.sum(axis=0)
        on_batch(scored.first, scored.generated)

    def of_all(parts: list[np.ndarray]) -> np.ndarray:
        return gather(hosts, np.concatenate(parts), rows, len(split.files))

    return Scores(
        per_image={name: of_all(batches) for name, batches in values.items()},
        features=of_all(features) if features else None,
        logits=of_all(logits) if logits else None,
        confusion=None if confusion is None else hosts.total(confusion),
    )


def describe_reference(
    lanes: Sequence[Lane],
    split: Split,
    batch_size: int,
    cache: Path,
    on_progress: Callable[[int], None] = lambda done: None,
    hosts: Hosts = ALONE,
) -> Reference | None:
    """Features and statistics of the target images, from a file that remembers them if it is of these very images.

    Args:
        lanes: What computes on this host, with the same extractors as for the generated images.
        split: The pairs, all of them.
        batch_size: Images at a time on each lane.
        cache: The chief's file; written anew when the images, their size or the extractor have changed.
        on_progress: Called with the number of images done.
        hosts: Which share the pairs out.

    Returns:
        None on other hosts than the chief.
    """
    key = _reference_key(split, lanes[0].extractor)
    known = _recall(cache, key, len(split.files), lanes[0].extractor.width) if hosts.is_chief else None
    if hosts.agree([known is not None])[0, 0]:
        on_progress(len(split.files))
        return known
    kind, rows = split.reading.target_kind, own_rows(hosts, len(split.files), batch_size)

    def look(lane: Lane, batch: tuple[int, tf.Tensor, tf.Tensor]) -> np.ndarray:
        first, _, target_image = batch
        found, _ = lane.extractor.run(codec.to_rgb(codec.from_unit_range(target_image, kind), kind))
        _check_finite(found, split.names[first : first + len(found)], "features of the target image")
        return found

    features, done = [], 0
    for found in each_in_order(lanes, look, batches(split, rows, batch_size)):
        features.append(found)
        done += len(found)
        on_progress(done)
    reference = gather(hosts, np.concatenate(features), rows, len(split.files))
    if not hosts.is_chief:
        return None
    if len(reference) < FEWEST_IMAGES:
        return Reference(reference, None)  # and nothing that is worth remembering
    described = Reference(reference, distribution.statistics(reference))
    with whole_file(cache, sync=False) as file:
        np.savez(file, key=key, features=reference, mu=described.statistics.mu, sigma=described.statistics.sigma)
    return described


def summarise(scores: Scores, reference: Reference | None, extractor: Extractor | None, reason: str = "") -> Summary:
    """Means of the paired metrics, and the distribution metrics over all images.

    Metrics of an extractor with other than 2048 features carry their number in their name, as `fid@768`. Of label maps
    the mean intersection over union is that of all images together, not the mean of each image's.

    Args:
        scores: Of the generated images.
        reference: Of the targets, or of others of which there may be more or fewer; None without an extractor.
        extractor: What both were seen through.
        reason: Why there is no extractor, if there is none.
    """
    metrics, absent, cautions = {}, {}, []
    for name, values in scores.per_image.items():
        equal = int(np.isinf(values).sum())
        if equal:
            absent[name] = f"it is infinite for {equal} images that equal their target"
        else:
            metrics[name] = float(values.mean())
    if scores.confusion is not None:
        metrics["mean_iou"] = float(labels.mean_iou(scores.confusion))
        absent |= dict.fromkeys((name for name in PAIRED if name not in LABELS), NOT_OF_LABELS)
    if extractor is None:
        return Summary(
            metrics,
            {**absent, **dict.fromkeys((metric.name for metric in METRICS if metric.inception), reason)},
            cautions,
        )

    label, count = extractor.label, len(scores.features)
    fewer = min(count, len(reference.features))
    if fewer < FEWEST_IMAGES:
        few = f"it needs at least {FEWEST_IMAGES} images, there are {fewer}"
        absent |= dict.fromkeys((f"fid{label}", f"kid{label}"), few)
    else:
        described = distribution.statistics(scores.features)
        fid = distribution.frechet_distance_from_statistics(generated=described, reference=reference.statistics)
        metrics[f"fid{label}"] = fid
        second = distribution.second_opinion(generated=described, reference=reference.statistics)
        if second is not None and abs(fid - second) > max(1e-3 * second, 1e-6):  # equal images leave only rounding
            cautions.append(
                f"FID{label} is {fid:.6g} by tensorflow-gan's formula, but {second:.6g} by singular values, which drop "
                "no small eigenvalues: differences of that size mean nothing."
            )
        kid, deviation = distribution.kernel_distance(generated=scores.features, reference=reference.features)
        metrics |= {f"kid{label}": kid, f"kid_std{label}": deviation}
        few = f"fewer than the {extractor.width} features" if fewer < extractor.width else ""
        few = few or (f"under {ENOUGH_IMAGES:,}" if fewer < ENOUGH_IMAGES else "")
        if few:
            cautions.append(
                f"FID{label} is biased upwards by few images, and {fewer:,} are {few}: compare it only with "
                "values of the same images. KID is unbiased."
            )
    if scores.logits is None:
        absent[f"inception_score{label}"] = "the extractor gives no logits"
    elif count < INCEPTION_SCORE_PARTS:
        absent[f"inception_score{label}"] = f"its {INCEPTION_SCORE_PARTS} parts need as many images, there are {count}"
    else:
        score, deviation = distribution.inception_score(scores.logits)
        metrics |= {f"inception_score{label}": score, f"inception_score_std{label}": deviation}
    return Summary(metrics, absent, cautions)


def fitting(kind: Kind, extractor: Extractor | None, reason: str) -> tuple[Extractor | None, str]:
    """The extractor if it can see such targets, which it cannot if they are label maps; and why there is none."""
    return (None, NOT_OF_LABELS) if kind.labels else (extractor, reason)


def describe_extractor(extractor: Extractor | None) -> dict | None:
    """What is written beside every number that came through the extractor."""
    if extractor is None:
        return None
    names = ("source", "sha256", "width", "classes")
    return {**{name: getattr(extractor, name) for name in names}, "resizing": RESIZING}


def _reference_key(split: Split, extractor: Extractor) -> str:
    changed = max(changed_at(path) for path in {path for row in split.files.paths for path in row})
    return f"{fingerprint(split)} {changed} {extractor.sha256} {RESIZING}"


def _recall(cache: Path, key: str, count: int, width: int) -> Reference | None:
    most = 8 * (count * width + width + width**2) + 10_000  # bytes of the arrays, and of what says what they are
    try:
        with zipfile.ZipFile(cache) as parts:
            if sum(part.file_size for part in parts.infolist()) > most:  # not of ours: compressed, or of other images
                return None
        with open(cache, "rb") as file, np.load(file) as saved:
            if str(saved["key"]) != key:
                return None
            features = saved["features"]
            return Reference(features, distribution.Statistics(saved["mu"], saved["sigma"], len(features)))
    except (OSError, ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile):
        return None  # it is not there, cut short, or of another kind


def _check_finite(values: np.ndarray, names: Sequence[str], what: str) -> None:
    finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    if not finite.all():
        raise UserError(
            f"Only finite numbers can be scored. There are NaN or infinite values in the {what} of "
            f"{names[int(np.argmin(finite))]}. Take an earlier --checkpoint, or leave that file out."
        )
