"""TensorBoard event files, written by `tf.summary.write`.

`tf.summary.scalar` and `image` need the tensorboard package, which TensorFlow 2.21 no longer brings along.
"""

import tensorflow as tf

from p2p_keras.images.files import encode_png

_Metadata = tf.compat.v1.SummaryMetadata
_SCALAR, _IMAGES = 1, 3  # DataClass DATA_CLASS_SCALAR and DATA_CLASS_BLOB_SEQUENCE of TensorBoard's summary.proto


def write_scalars(writer: tf.summary.SummaryWriter, step: int, values: dict[str, float]) -> None:
    """Writes one number a tag."""
    with writer.as_default(step=step):
        for tag, value in values.items():
            tf.summary.write(tag, tf.constant(value, tf.float32), metadata=_metadata("scalars", _SCALAR))


def write_image(writer: tf.summary.SummaryWriter, step: int, tag: str, image) -> None:
    """Writes one uint8 (H, W, 3) image."""
    height, width, _ = image.shape
    tensor = tf.constant([str(width).encode(), str(height).encode(), encode_png(image)])
    with writer.as_default(step=step):
        tf.summary.write(tag, tensor, metadata=_metadata("images", _IMAGES))


def _metadata(plugin: str, data_class: int):
    return _Metadata(plugin_data=_Metadata.PluginData(plugin_name=plugin), data_class=data_class)
