"""Requests that TF Serving runs on a new version before it takes traffic: `assets.extra/tf_serving_warmup_requests`.

A TFRecord of `PredictionLog` messages (tensorflow_serving/apis/prediction_log.proto). They are so simple that they are
written field by field here, instead of depending on tensorflow-serving-api; the tests read them with it.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf

from p2p_keras.export.signatures import Contract
from p2p_keras.images.codec import encode

BATCHES = (1, 8)


def write_requests(saved_model: Path, contract: Contract, noise: bool) -> None:
    """Writes requests for `serving_default`, `translate` and `tiled`, for each of `BATCHES`.

    Args:
        saved_model: The version's folder.
        contract: The size of the images, and what they are: grey, or of class 0.
        noise: Whether the signatures take a seed.
    """
    images = {
        name: np.full((*contract.image_size, kind.depth), 0 if kind.labels else (kind.levels + 1) // 2, kind.dtype)
        for name, kind in zip(contract.input_names, contract.input_kinds, strict=True)
    }
    folder = saved_model / "assets.extra"
    folder.mkdir()
    with tf.io.TFRecordWriter(str(folder / "tf_serving_warmup_requests")) as file:
        for batch in BATCHES:
            seeds = {"seed": np.zeros(batch, np.int32)} if noise else {}
            encoded = {f"{name}_bytes": np.array([encode(image)] * batch, object) for name, image in images.items()}
            levels = {name: np.stack([image] * batch) for name, image in images.items()}
            file.write(_prediction_log("serving_default", {**encoded, **seeds}))
            file.write(_prediction_log("translate", {**levels, **seeds}))
            file.write(_prediction_log("tiled", {**levels, **seeds}))


def _prediction_log(signature: str, inputs: dict[str, np.ndarray]) -> bytes:
    """PredictionLog { predict_log: { request: { model_spec: { signature_name }, inputs } } }, serialised."""
    entries = b"".join(
        _field(2, _field(1, name.encode()) + _field(2, tf.make_tensor_proto(value).SerializeToString()))
        for name, value in inputs.items()
    )
    request = _field(1, _field(3, signature.encode())) + entries
    return _field(6, _field(1, request))


def _field(number: int, content: bytes) -> bytes:
    """A field of protobuf's wire type 2: tag, length, content."""
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first; the high bit says that more follow."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
