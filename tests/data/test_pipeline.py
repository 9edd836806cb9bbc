import numpy as np
import pytest
import tensorflow as tf
from conftest import READING, draw_pair, hidden_size_png, many_scans, write_bomb
from PIL import Image

from p2p_keras.config import default_load_size
from p2p_keras.data import pipeline
from p2p_keras.data.pairs import Files, Reading, find_pairs
from p2p_keras.images import codec
from p2p_keras.images.kinds import Kind
from p2p_keras.sizes import Size


def _batches(pairs_dir, first=0, last=6, batch_size=4, seed=3):
    files = find_pairs(pairs_dir).files("train")
    return list(pipeline.training_dataset(files, READING, batch_size, seed, first, last).as_numpy_iterator())


def _numbered(folder, count):
    """Pairs whose images tell their number: plain, of level 10 times that."""
    for i in range(count):
        Image.new("RGB", (64, 32), (10 * i,) * 3).save(folder / f"{i}.png")
    return Files([(str(folder / f"{i}.png"),) for i in range(count)])


def _numbers(batch):
    return np.rint((batch[0][:, 0, 0, 0] + 1) * 127.5 / 10).astype(int)


@pytest.mark.parametrize(("size", "load"), [(32, 36), (64, 72), (128, 143), (256, 286), (512, 572)])
def test_load_size_keeps_the_papers_ratio(size, load):
    assert default_load_size(Size(size, 2 * size)) == (load, round(2 * size * 286 / 256))


def test_a_run_that_starts_later_sees_what_it_would_have_seen(pairs_dir):
    whole = _batches(pairs_dir)
    for first in (1, 3, 5):
        for ours, theirs in zip(_batches(pairs_dir, first), whole[first:], strict=True):
            for x, y in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(x, y)


def test_each_epoch_is_another_permutation_and_the_seed_decides_it(tmp_path):
    files = _numbered(tmp_path, 12)

    def order(seed):
        dataset = pipeline.training_dataset(files, READING, 4, seed, 0, 9)
        return np.concatenate([_numbers(batch) for batch in dataset.as_numpy_iterator()]).reshape(3, 12)

    epochs = order(3)
    for epoch in epochs:
        assert sorted(epoch) == list(range(12))
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert not np.array_equal(epochs, order(4))


def test_what_does_not_fill_a_batch_is_left_out_of_its_epoch_only(tmp_path):
    dataset = pipeline.training_dataset(_numbered(tmp_path, 5), READING, 4, 0, 0, 20)
    epochs = [set(_numbers(batch)) for batch in dataset.as_numpy_iterator()]
    assert all(len(epoch) == 4 for epoch in epochs)
    assert set.union(*epochs) == set(range(5))


def test_shapes_ranges_and_distinct_noise_seeds(pairs_dir):
    batches = _batches(pairs_dir)
    for input_image, target_image, noise_seed in batches:
        assert input_image.shape == target_image.shape == (4, 32, 32, 3)
        assert input_image.dtype == target_image.dtype == np.float32
        assert input_image.min() >= -1
        assert target_image.max() <= 1
        assert noise_seed.shape == (4, 2)
    assert len({tuple(seed) for batch in batches for seed in batch[2]}) == 24


def test_order_and_noise_are_golden(tmp_path):
    """A run that an older version began goes on with the pairs and the noise that it would have had."""
    dataset = pipeline.training_dataset(
        _numbered(tmp_path, 5), READING, batch_size=2, seed=3, first_step=0, last_step=4
    )
    batches = list(dataset.as_numpy_iterator())
    assert [_numbers(batch).tolist() for batch in batches] == [[4, 1], [0, 3], [4, 3], [0, 1]]
    noise_seeds = [seed.tolist() for batch in batches for seed in batch[2]]
    assert noise_seeds == [[1726154704, position] for position in range(8)]


def test_both_images_get_the_same_draw(pairs_dir):
    for input_image, target_image, _ in _batches(pairs_dir):
        # Drawn so that the target is the input's negative: resizing is linear, so any common draw keeps it so.
        np.testing.assert_allclose(target_image, -input_image, atol=1e-5)


@pytest.mark.parametrize("shape", [(50, 40, 3), (30, 36, 3), (32, 32, 1), (20, 50, 4)])  # shrunk, enlarged, both
def test_jitter_equals_resize_crop_mirror_of_tensorflow(shape):
    pair = tf.constant(np.random.RandomState(0).randint(0, 256, shape, dtype=np.uint8))
    mirrored, offsets = set(), set()
    for i in range(40):
        draw, kind = pipeline.draw_jitter(tf.constant([i, 5])), Kind(shape[-1])
        ours = pipeline.random_jitter(pair, draw, READING, kind).numpy()
        draw = tf.random.stateless_uniform((3,), [i, 5]).numpy()
        top, left = (draw[:2] * 5).astype(int)
        resized = tf.image.resize(pair, (36, 36), "bilinear", antialias=True).numpy()
        expected = resized[top : top + 32, left : left + 32]
        expected = expected[:, ::-1] if draw[2] < 0.5 else expected
        # Float32 sums in another order, and the range is mapped before, not after: a thousandth of a level of 255.
        np.testing.assert_allclose(ours, expected / 127.5 - 1, atol=8e-6)
        mirrored.add(draw[2] < 0.5)
        offsets |= {("y", top), ("x", left)}
    assert mirrored == {True, False}
    assert offsets == {(axis, offset) for axis in "xy" for offset in range(5)}  # every crop is reached


def test_inference_keeps_an_image_of_the_right_size_as_it_is_and_resizes_others_like_pillow(tmp_path):
    first, second = draw_pair(0)
    Image.fromarray(np.concatenate([first, second], axis=1)).save(tmp_path / "a.png")
    input_image, target_image = next(iter(pipeline.inference_dataset(Files([(str(tmp_path / "a.png"),)]), READING, 1)))
    np.testing.assert_array_equal(np.rint((input_image[0] + 1) * 127.5), first)
    np.testing.assert_array_equal(np.rint((target_image[0] + 1) * 127.5), second)

    large = np.random.RandomState(0).randint(0, 256, (100, 140, 3), dtype=np.uint8)
    Image.fromarray(large).save(tmp_path / "b.png")
    input_image, _ = next(iter(pipeline.inference_dataset(Files([(str(tmp_path / "b.png"),)]), READING, 1)))
    expected = np.asarray(Image.fromarray(large[:, :70]).resize((32, 32), Image.Resampling.BILINEAR), np.float32)
    assert np.abs((input_image[0] + 1) * 127.5 - expected).max() <= 1.01  # Pillow rounds after each of its two passes


def test_panels_are_cut_by_position(tmp_path):
    levels = [10, 80, 150, 220]
    Image.fromarray(np.concatenate([np.full((8, 8, 3), x, np.uint8) for x in levels], axis=1)).save(tmp_path / "a.png")
    read_pair = pipeline.make_reader(Files([(str(tmp_path / "a.png"),)]), Reading(4, (2,), 1, Size(32, 32)))
    input_image, target_image = read_pair(tf.constant(0, tf.int64))
    assert input_image.shape == target_image.shape == (8, 8, 3)
    assert (np.unique(input_image), np.unique(target_image)) == (150, 80)


def _gradient(tmp_path, height, width):
    """An image whose pixels say where they are: red the row, green the column."""
    rows, columns = np.indices((height, width))
    image = np.stack([rows, columns, np.zeros_like(rows)], axis=-1).astype(np.uint8)
    Image.fromarray(np.concatenate([image, image], axis=1)).save(tmp_path / "a.png")
    return Files([(str(tmp_path / "a.png"),)])


def _levels(image):
    return np.rint((np.asarray(image) + 1) * 127.5).astype(int)


NATIVE = Reading(image_size=Size(32, 64), native=True)


def test_native_crops_are_cut_out_of_the_image_as_it_is(tmp_path):
    files, corners, mirrored = _gradient(tmp_path, 60, 120), set(), set()
    dataset = pipeline.training_dataset(files, NATIVE, 1, seed=3, first_step=0, last_step=60)
    for input_image, target_image, _ in dataset.as_numpy_iterator():
        np.testing.assert_array_equal(input_image, target_image)
        rows, columns = _levels(input_image)[0, ..., 0], _levels(input_image)[0, ..., 1]
        assert rows.shape == (32, 64)
        np.testing.assert_array_equal(np.diff(rows, axis=0), 1)
        step = columns[0, 1] - columns[0, 0]
        np.testing.assert_array_equal(np.diff(columns, axis=1), step)
        mirrored.add(step)
        corners.add((rows.min(), columns.min()))
    assert mirrored == {1, -1}
    assert len(corners) > 40
    for places, room in zip(zip(*corners, strict=True), (60 - 32, 120 - 64), strict=True):
        assert 0 <= min(places) < room / 8 < room * 7 / 8 < max(places) <= room
    (middle, _) = next(pipeline.inference_dataset(files, NATIVE, 1).as_numpy_iterator())
    assert _levels(middle)[0, 0, 0].tolist()[:2] == [14, 28]


def test_an_image_smaller_than_a_native_crop_is_enlarged_as_a_whole(tmp_path):
    files = _gradient(tmp_path, 16, 64)  # as high as half the crop, so it is enlarged twice, to 32x128
    for input_image, _, _ in pipeline.training_dataset(files, NATIVE, 1, 3, 0, 10).as_numpy_iterator():
        rows, columns = _levels(input_image)[0, ..., 0], _levels(input_image)[0, ..., 1]
        assert (rows.min(), rows.max()) == (0, 15)
        assert columns.max() - columns.min() in (31, 32)  # 64 pixels of half the scale


def test_without_mirror_no_pair_is_mirrored(tmp_path):
    files = _gradient(tmp_path, 60, 120)
    for reading in (NATIVE, Reading(image_size=Size(32, 64), load_size=Size(40, 80))):
        kept = pipeline.training_dataset(files, reading._replace(mirror=False), 1, 3, 0, 12).as_numpy_iterator()
        both = pipeline.training_dataset(files, reading, 1, 3, 0, 12).as_numpy_iterator()
        rising = [_levels(image)[0, 0, -1, 1] > _levels(image)[0, 0, 0, 1] for image, _, _ in kept]
        assert all(rising)
        assert {_levels(image)[0, 0, -1, 1] > _levels(image)[0, 0, 0, 1] for image, _, _ in both} == {True, False}


def test_rectangles_are_resized_to_the_load_size_and_cropped(tmp_path):
    files = _gradient(tmp_path, 100, 100)
    reading = Reading(image_size=Size(32, 64), load_size=Size(50, 100), mirror=False)
    for input_image, _, _ in pipeline.training_dataset(files, reading, 1, 3, 0, 8).as_numpy_iterator():
        assert input_image.shape == (1, 32, 64, 3)
        rows, columns = _levels(input_image)[0, ..., 0], _levels(input_image)[0, ..., 1]
        assert abs(rows[:, 0].max() - rows[:, 0].min() - 62) <= 1  # 31 steps of two
        assert columns[0].max() - columns[0].min() == 63


def test_several_inputs_are_stacked_and_get_the_same_draw(tmp_path):
    rows, columns = np.indices((40, 40)).astype(np.uint8)
    classes = (columns // 10) % 3
    for name, image in (("a", rows), ("b", classes), ("c", columns)):
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    files = Files([tuple(str(tmp_path / f"{name}.png") for name in "abc")])
    kinds = (Kind(1), Kind(3, labels=True))
    reading = Reading(3, (0, 1), 2, Size(32, 32), kinds, Kind(1), Size(40, 40))
    for input_image, target_image, _ in pipeline.training_dataset(files, reading, 1, 3, 0, 8).as_numpy_iterator():
        assert input_image.shape == (1, 32, 32, 4)
        classes = input_image[0, ..., 1:].argmax(axis=-1)
        np.testing.assert_array_equal(classes, _levels(target_image)[0, ..., 0] // 10 % 3)
        assert set(np.unique(input_image[..., 1:])) <= {-1, 1}
    input_image, _ = next(pipeline.inference_dataset(files, reading, 1).as_numpy_iterator())
    assert [image.shape[-1] for image in codec.split_channels(input_image, kinds)] == [1, 3]


def test_hosts_and_replicas_share_out_the_rows_of_each_batch(tmp_path):
    """In order: all hosts' and replicas' batches of a step, one after the other, are the batch of one device."""
    files = _numbered(tmp_path, 8)
    whole = list(pipeline.training_dataset(files, READING, 4, 3, 1, 5).as_numpy_iterator())
    for hosts, replicas in ((2, 1), (1, 2), (2, 2), (4, 1)):
        shares = [
            iter(
                pipeline.training_dataset(
                    files, READING, 4, 3, 1, 5, pipeline.Share(host, hosts, replicas)
                ).as_numpy_iterator()
            )
            for host in range(hosts)
        ]
        for batch in whole:
            parts = [next(share) for share in shares for _ in range(replicas)]
            for column, values in enumerate(batch):
                np.testing.assert_array_equal(np.concatenate([part[column] for part in parts]), values)


def test_a_file_that_nobody_checked_is_not_decoded_beyond_the_limits(tmp_path):
    """As those that a manifest vouches for, which may be a stranger's."""
    write_bomb(tmp_path / "large.png")
    (tmp_path / "hidden.png").write_bytes(hidden_size_png(9000, 9000))
    (tmp_path / "scans.jpg").write_bytes(many_scans(draw_pair(0)[0], 1001))
    for name, problem in (("large.png", "64 megapixels"), ("hidden.png", "not a JPEG or PNG"), ("scans.jpg", "scans")):
        files = Files([(str(tmp_path / name),)])
        with pytest.raises(tf.errors.InvalidArgumentError, match=problem):
            next(iter(pipeline.inference_dataset(files, Reading(), 1)))
