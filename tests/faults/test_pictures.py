"""The check of pictures before training against what TensorFlow's graph then does: they take the same files."""

import contextlib
import re

import numpy as np
import pytest
import tensorflow as tf
from conftest import as_file, png_of
from hypothesis import strategies as st
from PIL import Image

from faults.fuzzing import damaged, many, run_examples
from p2p_keras.data.check import find_bad_pairs
from p2p_keras.data.pairs import Reading
from p2p_keras.data.picture import ImageError
from p2p_keras.data.prepare.sources import Source
from p2p_keras.data.prepare.stack import Form, make_pair
from p2p_keras.images import codec
from p2p_keras.images.kinds import RGB, Kind
from p2p_keras.sizes import Size

FORM = Form(image_size=Size(8, 8), format="png")
LABELS = Kind(256, labels=True)
KINDS = (RGB, Kind(1), Kind(2), Kind(4), Kind(1, 16), Kind(3, 16), LABELS)
# What is refused on purpose although TensorFlow would make something of it: it forgets the orientation, makes RGB of
# CMYK in its own way, and opens GIFs. A label map's numbers are read by Pillow in the graph, too, which does not
# compare checksums.
ON_PURPOSE = re.compile("its EXIF orientation is not 1|its pixels are CMYK|it is a GIF|it is not an image$")
OF_LABELS = re.compile("it is damaged: |it is cut short")
SIDEWAYS = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"


def every_kind() -> list[bytes]:
    """Small files of every kind that Pillow and TensorFlow write, of noise."""
    found, rng = [], np.random.default_rng(0)
    for height, width in ((1, 1), (6, 8), (3, 17)):
        levels = rng.integers(0, 256, (height, width, 4)).astype(np.uint8)
        rgb = Image.fromarray(levels[..., :3])
        modes = [rgb.convert(mode) for mode in ("RGB", "L", "P", "1", "CMYK", "YCbCr", "LA", "PA")]
        modes.append(Image.fromarray(levels))
        modes.append(Image.fromarray(rng.integers(0, 2**16, (height, width)).astype(np.uint16)))
        for image in modes:
            for form, options in (
                ("PNG", {}),
                ("PNG", {"compress_level": 0}),
                ("PNG", {"transparency": 0}),
                ("JPEG", {}),
                ("JPEG", {"progressive": True}),
                ("JPEG", {"quality": 100, "subsampling": 0}),
                ("JPEG", {"exif": SIDEWAYS}),
                ("JPEG", {"restart_marker_blocks": 1}),
                ("BMP", {}),
                ("GIF", {}),
                ("TIFF", {}),
                ("WEBP", {}),
            ):
                try:
                    found.append(as_file(image, form, **options))
                except (OSError, ValueError, TypeError):  # that format has no such pixels
                    continue
        deep = rng.integers(0, 2**16, (height, width, 4)).astype(np.uint16)
        found += [tf.io.encode_png(deep[..., :channels]).numpy() for channels in (1, 2, 3, 4)]
        found += [png_of(levels[..., 0] >> 8 - bits, bits, indexed) for bits in (1, 2, 4) for indexed in (True, False)]
    return found


def test_enough_kinds_of_files_can_be_written():
    heads = [content[:4] for content in every_kind()]
    for head in (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"GIF8", b"II*\0", b"RIFF"):
        assert sum(found.startswith(head) for found in heads) >= 3


@many
@pytest.mark.filterwarnings("ignore:::PIL")  # of the comparison's own look at the file
def test_what_passes_the_check_is_decoded_in_the_graph_and_what_does_not_is_not(examples, tmp_path):
    graphs = {
        kind: tf.function(
            lambda encoded, kind=kind: codec.decode(encoded, kind), input_signature=[tf.TensorSpec((), tf.string)]
        )
        for kind in KINDS
    }
    path, taken = tmp_path / "image", []

    def check(content, kind):
        path.write_bytes(content)
        reading = Reading(1, (0,), 0, input_kinds=(kind,), target_kind=kind)
        problem = find_bad_pairs([(str(path),)], reading).get(0)
        image = None
        with contextlib.suppress(tf.errors.OpError):
            image = graphs[kind](content).numpy()
        assert problem or image is not None
        if image is None:
            return
        if problem:
            assert ON_PURPOSE.match(problem) or (kind.labels and OF_LABELS.match(problem)), problem
            return
        taken.append(kind)
        with Image.open(path) as opened:
            assert image.shape[1::-1] == opened.size
            if kind == RGB and not opened.mode.startswith("I"):
                np.testing.assert_array_equal(image, opened.convert("RGB"))

    files = every_kind()
    file = st.sampled_from(files).flatmap(lambda content: st.just(content) | damaged(content))
    run_examples(examples, check, file, st.sampled_from(KINDS))
    assert len(taken) > examples / 20


@many
@pytest.mark.filterwarnings("ignore:::PIL")  # p2p-prepare's workers ignore them, too
def test_whatever_p2p_prepare_is_given_is_stacked_or_refused_in_words(examples, tmp_path):
    path, written = tmp_path / "image", []

    def check(content):
        path.write_bytes(content)
        with contextlib.suppress(ImageError):
            written.append(make_pair(Source("a", (str(path), str(path))), "train", tmp_path, FORM))

    file = st.sampled_from(every_kind()).flatmap(lambda content: st.just(content) | damaged(content))
    run_examples(examples, check, file)
    assert len(written) > examples / 20
