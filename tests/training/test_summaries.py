import io

import numpy as np
import tensorflow as tf
from conftest import read_events
from google.protobuf.struct_pb2 import Struct
from PIL import Image

from p2p_keras.training import summaries


def test_events_hold_what_tensorboard_reads(tmp_path):
    image = np.random.RandomState(0).randint(0, 256, (4, 6, 3), dtype=np.uint8)
    writer = tf.summary.create_file_writer(str(tmp_path))
    summaries.write_scalars(writer, 7, {"l1_loss": 0.25, "gan_loss": 1.5})
    summaries.write_image(writer, 8, "samples", image)
    writer.close()
    found = read_events(tmp_path)
    assert found.keys() == {"l1_loss", "gan_loss", "samples"}
    [(step, value)] = found["l1_loss"]
    assert (step, float(tf.make_ndarray(value.tensor))) == (7, 0.25)
    assert (value.metadata.plugin_data.plugin_name, value.metadata.data_class) == ("scalars", 1)
    [(step, value)] = found["samples"]
    width, height, png = tf.make_ndarray(value.tensor)
    assert (step, int(width), int(height)) == (8, 6, 4)
    assert (value.metadata.plugin_data.plugin_name, value.metadata.data_class) == ("images", 3)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), image)


def test_settings_are_as_tensorboards_own_writer_has_them(tmp_path):
    """The bytes are what an `HParamsPluginData` of tensorboard 2.21 is serialised to, with `deterministic=True`."""
    settings = {"batch_size": 24, "mirror": True, "direction": "a2s"}
    golden = b"\x1a;\n\x17\n\nbatch_size\x12\t\x11\x00\x00\x00\x00\x00\x008@\n\x12\n\tdirection\x12\x05\x1a\x03a2s"
    golden += b"\n\x0c\n\x06mirror\x12\x02 \x01"
    assert summaries.hparams_content(settings) == golden
    writer = tf.summary.create_file_writer(str(tmp_path))
    summaries.write_settings(writer, 3, settings)
    writer.close()
    found = read_events(tmp_path)
    [(step, value)] = found["settings"]
    assert (step, value.metadata.plugin_data.plugin_name) == (3, "text")
    assert tf.make_ndarray(value.tensor).item().decode().splitlines()[2:] == [
        "| batch_size | 24 |",
        "| mirror | True |",
        "| direction | a2s |",
    ]
    [(_, value)] = found["_hparams_/session_start_info"]
    assert (value.metadata.plugin_data.plugin_name, value.metadata.plugin_data.content) == ("hparams", golden)


def test_many_settings_have_a_length_of_two_bytes():
    settings = {f"setting{i}": float(i) for i in range(40)}
    content = summaries.hparams_content(settings)
    start, read = Struct(), content[1] & 127 | content[2] << 7
    start.ParseFromString(content[3:])
    assert read == len(content) - 3
    assert dict(start) == settings
