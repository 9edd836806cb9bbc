import io

import numpy as np
import tensorflow as tf
from conftest import read_events
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
