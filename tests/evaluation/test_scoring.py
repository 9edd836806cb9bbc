import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import READING, Eye, negative, write_pairs

from p2p_keras.data.pairs import Files, Reading, find_pairs
from p2p_keras.data.pipeline import inference_dataset
from p2p_keras.errors import UserError
from p2p_keras.evaluation import scoring
from p2p_keras.evaluation.lanes import Lane
from p2p_keras.evaluation.split import Split, fingerprint, take_split
from p2p_keras.images import codec
from p2p_keras.images.kinds import RGB, Kind
from p2p_keras.metrics import distribution
from p2p_keras.sizes import Size

SWAPPED = READING._replace(input_panels=(1,), target_panel=0)


@pytest.fixture
def split(pairs_dir) -> Split:
    return take_split(find_pairs(pairs_dir), READING, "train")


def test_a_perfect_generator_scores_perfectly(split):
    scores = scoring.score_images([Lane(negative)], split, 5)
    summary = scoring.summarise(scores, None, None, "there is none")
    assert summary.metrics["l1"] == 0
    assert summary.metrics["ssim"] == pytest.approx(1, abs=1e-6)  # float32
    assert summary.absent["psnr"] == "it is infinite for 12 images that equal their target"
    assert {summary.absent[name] for name in ("fid", "kid", "inception_score")} == {"there is none"}


def test_images_are_quantised_before_they_are_compared(split):
    # A tenth of a level off: nothing that an 8-bit image could show.
    scores = scoring.score_images([Lane(lambda image: -image + 0.1 / 127.5)], split, 5)
    assert scores.per_image["l1"].max() == 0


def test_numbers_do_not_depend_on_the_batch_size(split):
    eye = Eye()
    all_scores = [
        scoring.score_images([Lane(lambda image: image * 0.9, eye.extractor)], split, size) for size in (1, 5, 12)
    ]
    for scores in all_scores[1:]:
        for name, values in scores.per_image.items():
            tolerance = 1e-5 if name == "ssim" else 0  # TensorFlow's SSIM is float32, the others are float64
            np.testing.assert_allclose(values, all_scores[0].per_image[name], rtol=tolerance)
        np.testing.assert_array_equal(scores.features, all_scores[0].features)
        np.testing.assert_array_equal(scores.logits, all_scores[0].logits)


def test_batches_are_handed_out_with_their_place(split):
    batches = []
    scoring.score_images([Lane(negative)], split, 5, lambda first, generated: batches.append((first, generated.shape)))
    assert batches == [(0, (5, 32, 32, 3)), (5, (5, 32, 32, 3)), (10, (2, 32, 32, 3))]


def test_an_image_that_is_not_finite_is_named(split):
    def broken(image: tf.Tensor) -> tf.Tensor:
        return tf.where(image == tf.reduce_max(image), np.nan, image) if len(image) == 2 else image

    with pytest.raises(UserError, match=r"There are NaN or infinite values in the generated image of 010.png"):
        scoring.score_images([Lane(broken)], split, 5)


def test_the_reference_is_seen_once_and_again_when_anything_changes(split, tmp_path, monkeypatch):
    cache, eye = tmp_path / "reference.npz", Eye()
    first = scoring.describe_reference([Lane(None, eye.extractor)], split, 5, cache)
    again = scoring.describe_reference([Lane(None, eye.extractor)], split, 7, cache)
    assert eye.seen == 12
    np.testing.assert_array_equal(first.features, again.features)
    np.testing.assert_array_equal(first.statistics.sigma, again.statistics.sigma)
    assert again.statistics.count == 12

    other = Eye(sha256="def")
    scoring.describe_reference([Lane(None, other.extractor)], split, 5, cache)
    assert other.seen == 12  # another extractor
    scoring.describe_reference([Lane(None, eye.extractor)], split, 5, cache)
    assert eye.seen == 24
    scoring.describe_reference([Lane(None, eye.extractor)], split._replace(reading=SWAPPED), 5, cache)
    assert eye.seen == 36  # the other panel
    scoring.describe_reference([Lane(None, eye.extractor)], split, 5, cache)
    os.utime(split.files.paths[3][0], ns=(10**18, 2 * 10**18))
    scoring.describe_reference([Lane(None, eye.extractor)], split, 5, cache)
    assert eye.seen == 60  # a changed file
    cache.write_bytes(cache.read_bytes()[:100])
    scoring.describe_reference([Lane(None, eye.extractor)], split, 5, cache)
    assert eye.seen == 72  # a damaged memory
    np.savez_compressed(cache, key=np.zeros(10**6), features=np.zeros((12, 10**6)))
    read = []
    monkeypatch.setattr(np, "load", lambda *given: read.append(given))
    scoring.describe_reference([Lane(None, eye.extractor)], split, 5, cache)
    assert eye.seen == 84
    assert not read  # a hundred megabytes of zeros
    assert [path.name for path in tmp_path.glob("*reference*")] == ["reference.npz"]  # nothing left beside


def test_distribution_metrics_are_those_of_the_features(split, tmp_path):
    eye = Eye()
    scores = scoring.score_images([Lane(lambda image: image, eye.extractor)], split, 5)
    reference = scoring.describe_reference([Lane(None, eye.extractor)], split, 5, tmp_path / "reference.npz")
    metrics = scoring.summarise(scores, reference, eye.extractor).metrics
    assert metrics["fid@12"] == distribution.frechet_distance(scores.features, reference.features)
    kid = distribution.kernel_distance(scores.features, reference.features)
    assert (metrics["kid@12"], metrics["kid_std@12"]) == kid
    score = distribution.inception_score(scores.logits)
    assert (metrics["inception_score@12"], metrics["inception_score_std@12"]) == score


def test_two_formulas_that_disagree_are_cautioned_about(split, tmp_path, monkeypatch):
    eye = Eye()
    scores = scoring.score_images([Lane(lambda image: image, eye.extractor)], split, 5)
    reference = scoring.describe_reference([Lane(None, eye.extractor)], split, 5, tmp_path / "reference.npz")
    fid = scoring.summarise(scores, reference, eye.extractor).metrics["fid@12"]
    for factor, told in ((1.0009, 0), (1.002, 1), (0.998, 1)):
        monkeypatch.setattr(distribution, "frechet_distance_by_singular_values", lambda *_, other=fid * factor: other)
        summary = scoring.summarise(scores, reference, eye.extractor)
        assert summary.metrics["fid@12"] == fid
        cautions = [caution for caution in summary.cautions if "singular values" in caution]
        assert cautions == told * [
            f"FID@12 is {fid:.6g} by tensorflow-gan's formula, but {fid * factor:.6g} by singular values, which drop "
            "no small eigenvalues: differences of that size mean nothing."
        ]


def test_few_images_are_cautioned_about_and_what_cannot_be_computed_is_absent(tmp_path):
    write_pairs(tmp_path / "train", 3)
    split = take_split(find_pairs(tmp_path), READING, "train")
    eye = Eye(classes=None)
    scores = scoring.score_images([Lane(negative, eye.extractor)], split, 5)
    reference = scoring.describe_reference([Lane(None, eye.extractor)], split, 5, tmp_path / "reference.npz")
    summary = scoring.summarise(scores, reference, eye.extractor)
    assert summary.absent["fid@12"] == summary.absent["kid@12"] == "it needs at least 4 images, there are 3"
    assert summary.absent["inception_score@12"] == "the extractor gives no logits"
    assert "fid@12" not in summary.metrics

    write_pairs(tmp_path / "train", 20)
    split = take_split(find_pairs(tmp_path), READING, "train")
    for count, words in ((5, "5 are fewer than the 12 features"), (20, "20 are under 10,000")):
        part = split._replace(names=split.names[:count], files=split.files.take(range(count)))
        scores = scoring.score_images([Lane(negative, eye.extractor)], part, 5)
        reference = scoring.describe_reference([Lane(None, eye.extractor)], part, 5, tmp_path / "reference.npz")
        (caution,) = scoring.summarise(scores, reference, eye.extractor).cautions
        assert words in caution


def _noise_folders(root: Path, kind: Kind, count: int = 4) -> Split:
    """Pairs of RGB noise in A/ and images of a kind in B/, and what is seen of them: `seen[i]` is B's i-th."""
    rng = np.random.default_rng(0)
    for panel, each in (("A", RGB), ("B", kind)):
        (root / panel / "train").mkdir(parents=True)
        for i in range(count):
            top = each.channels if each.labels else each.levels + 1
            levels = rng.integers(0, top, (32, 32, each.depth)).astype(each.dtype)
            (root / panel / "train" / f"{i}.png").write_bytes(codec.encode(levels))
    return take_split(find_pairs(root), Reading(image_size=Size(32, 32), target_kind=kind), "train")


def _targets(split: Split) -> np.ndarray:
    return next(iter(inference_dataset(split.files, split.reading, 99)))[1].numpy()


@pytest.mark.parametrize("kind", [Kind(1), Kind(4, 16)], ids=str)
def test_images_of_other_kinds_are_scored_at_their_depth_and_seen_by_inception_as_rgb(kind, tmp_path):
    split, seen, eye = _noise_folders(tmp_path, kind), [], Eye()
    target, step = _targets(split), 2 / kind.levels
    # A level above the target wherever that is not the brightest.
    scores = scoring.score_images(
        [Lane(lambda image: tf.minimum(target + step, 1.0), eye.extractor)],
        split,
        9,
        lambda first, made: seen.append(made),
    )
    assert scores.per_image["l1"] == pytest.approx(np.full(4, step), rel=0.01)  # of 256 levels one has none above
    assert scores.per_image["psnr"] == pytest.approx(np.full(4, 20 * np.log10(kind.levels)), abs=0.1)
    assert (seen[0].dtype, seen[0].shape) == (np.dtype(kind.dtype), (4, 32, 32, kind.channels))
    expected, _ = Eye().run(codec.to_rgb(seen[0], kind))
    np.testing.assert_array_equal(scores.features, expected)
    reference = scoring.describe_reference([Lane(None, eye.extractor)], split, 9, tmp_path / "reference.npz")
    expected, _ = Eye().run(codec.to_rgb(codec.from_unit_range(target, kind), kind))
    np.testing.assert_array_equal(reference.features, expected)


def test_label_maps_are_scored_by_their_classes(tmp_path):
    kind = Kind(5, labels=True)
    split = _noise_folders(tmp_path, kind)
    target = _targets(split)
    classes = codec.from_unit_range(target, kind)

    def generate(image: tf.Tensor) -> tf.Tensor:  # the class after the right one, in the upper half of the first two
        wrong = np.roll(target, 1, axis=-1)[: len(image)].copy()
        wrong[:, 16:] = target[: len(image), 16:]
        wrong[2:] = target[2 : len(image)]
        return tf.constant(wrong * 0.3)  # the highest channel counts, however low

    scores = scoring.score_images([Lane(generate)], split, 9)
    assert scores.per_image["pixel_accuracy"].tolist() == [0.5, 0.5, 1, 1]
    np.testing.assert_allclose(scores.per_image["l1"], [0.4, 0.4, 0, 0], rtol=1e-12)  # half the pixels times 4 / 5
    summary = scoring.summarise(scores, None, *scoring.fitting(kind, Eye().extractor, ""))
    assert summary.metrics["pixel_accuracy"] == 0.75
    assert summary.metrics["l1"] == pytest.approx(0.2, rel=1e-12)
    generated = codec.from_unit_range(generate(target).numpy(), kind)
    ratios = []
    for number in range(5):  # over all images together
        ours, theirs = generated == number, classes == number
        ratios.append((ours & theirs).sum() / (ours | theirs).sum())
    assert summary.metrics["mean_iou"] == pytest.approx(np.mean(ratios), rel=1e-12)
    assert summary.metrics["mean_iou"] != pytest.approx(scores.per_image["mean_iou"].mean(), rel=1e-3)
    assert set(summary.metrics) == {"l1", "pixel_accuracy", "mean_iou"}
    for name in ("psnr", "ssim", "sharpness_difference", "fid", "kid", "inception_score"):
        assert summary.absent[name] == "the targets are label maps: their numbers are classes, not brightness"
    images = scoring.fitting(RGB, "an extractor", "")
    assert images == ("an extractor", "")


def test_a_limit_spreads_over_the_split(pairs_dir):
    pairs = find_pairs(pairs_dir)
    some = take_split(pairs, READING, "train", limit=4)
    assert some.names == ("000.png", "003.png", "006.png", "009.png")
    assert len(some.files) == 4
    assert len(take_split(pairs, READING, "train", limit=99).files) == 12


def test_the_fingerprint_knows_the_images_and_not_the_place(pairs_dir, tmp_path):
    split = take_split(find_pairs(pairs_dir), READING, "train")
    before = fingerprint(split)
    moved = take_split(find_pairs(pairs_dir.rename(tmp_path / "elsewhere")), READING, "train")
    assert fingerprint(moved) == before
    assert (
        fingerprint(moved._replace(names=moved.names[1:], files=moved.files.take(range(1, len(moved.files))))) != before
    )
    assert fingerprint(moved._replace(reading=SWAPPED)) != before


@pytest.mark.parametrize(
    ("reading", "expected"),
    [
        (Reading(), "98fd047c73a3d091"),
        (Reading(4, (2,), 1, Size(64, 64), (Kind(5, labels=True),), Kind(1, 16)), "ea7688da5fe5dae9"),
    ],
)
def test_fingerprints_are_those_of_earlier_versions(reading, expected):
    """Golden, from the version before rectangles and several inputs: else a run's earlier scores would not count."""
    files = Files([("a.png",), ("b.png",)], [0, 1], [10, 20])
    split = Split("val", ("a.png", "b.png"), files, reading)
    assert fingerprint(split) == expected
    others = [
        reading._replace(native=True),
        reading._replace(image_size=Size(64, 128)),
        reading._replace(input_panels=(0, 2), input_kinds=reading.input_kinds * 2),
        reading._replace(input_panels=(2, 0), input_kinds=reading.input_kinds * 2),
    ]
    assert len({fingerprint(split._replace(reading=other)) for other in others} | {expected}) == 5
    assert fingerprint(split._replace(reading=reading._replace(load_size=Size(70, 70), mirror=False))) == expected
