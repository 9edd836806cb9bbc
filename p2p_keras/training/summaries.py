"""TensorBoard event files, written by `tf.summary.write`.

`tf.summary.scalar`, `image` and `text` need the tensorboard package, which TensorFlow 2.21 no longer brings along,
and so does the writer of its HParams plugin.
"""

from collections.abc import Mapping

import tensorflow as tf
from google.protobuf.struct_pb2 import Struct

from p2p_keras.images.files import encode_png

_Metadata = tf.compat.v1.SummaryMetadata
# DataClass DATA_CLASS_SCALAR, DATA_CLASS_TENSOR and DATA_CLASS_BLOB_SEQUENCE of TensorBoard's summary.proto
_SCALAR, _TENSOR, _IMAGES = 1, 2, 3


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


def write_settings(writer: tf.summary.SummaryWriter, step: int, settings: Mapping[str, bool | float | str]) -> None:
    """Writes a run's settings, as a card of text and for the HParams plugin, which compares runs by them."""
    table = "\n".join(["| setting | value |", "|---|---|", *(f"| {name} | {settings[name]} |" for name in settings)])
    with writer.as_default(step=step):
        tf.summary.write("settings", tf.constant(table), metadata=_metadata("text", _TENSOR))
        tf.summary.write(
            "_hparams_/session_start_info",
            tf.zeros(0),
            metadata=_metadata("hparams", 0, hparams_content(settings)),
        )


def hparams_content(settings: Mapping[str, bool | float | str]) -> bytes:
    """An `HParamsPluginData` of TensorBoard's plugin_data.proto, whose `session_start_info` (field 3) has the settings.

    A `SessionStartInfo` that has nothing but its `hparams` is, in bytes, a `Struct` of protobuf's own.
    """
    start = Struct()
    start.update(settings)
    encoded, length, size = start.SerializeToString(deterministic=True), b"", start.ByteSize()
    while size > 127:  # a varint: 7 bits a byte, the lowest first, the highest bit says that more follow
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return b"\x1a" + length + bytes([size]) + encoded


def _metadata(plugin: str, data_class: int, content: bytes = b""):
    return _Metadata(plugin_data=_Metadata.PluginData(plugin_name=plugin, content=content), data_class=data_class)
