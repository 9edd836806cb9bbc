import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from p2p_keras.export import served, warmup
from p2p_keras.export.signatures import Contract
from p2p_keras.images.kinds import RGB, Kind
from p2p_keras.sizes import Size


def _request(record: tf.Tensor):
    log = prediction_log_pb2.PredictionLog()
    log.ParseFromString(record.numpy())
    return log.predict_log.request


@pytest.mark.parametrize("noise", [False, True])
def test_requests_are_what_tf_serving_reads(tmp_path, noise):
    warmup.write_requests(tmp_path, Contract(Size(32, 32)), noise)
    path = tmp_path / "assets.extra" / "tf_serving_warmup_requests"
    logs = [_request(record) for record in tf.data.TFRecordDataset(str(path))]
    assert [
        (log.model_spec.signature_name, len(tf.make_ndarray(log.inputs[name])))
        for log, name in zip(logs, ("image_bytes", "image", "image") * 2, strict=True)
    ] == [(name, batch) for batch in (1, 8) for name in ("serving_default", "translate", "tiled")]
    assert all(("seed" in log.inputs) is noise for log in logs)
    assert tf.make_ndarray(logs[1].inputs["image"]).shape == (1, 32, 32, 3)
    assert tf.io.decode_png(tf.make_ndarray(logs[0].inputs["image_bytes"])[0]).shape == (32, 32, 3)


@pytest.mark.parametrize("kind", [Kind(2, 16), Kind(5, labels=True)], ids=str)
def test_requests_are_of_the_kind_that_the_model_takes(tmp_path, kind):
    warmup.write_requests(tmp_path, Contract(Size(32, 64), False, ("map", "photo"), (kind, RGB)), False)
    path = tmp_path / "assets.extra" / "tf_serving_warmup_requests"
    encoded, levels = (_request(record) for record in tf.data.TFRecordDataset(str(path)).take(2))
    image = tf.make_ndarray(levels.inputs["map"])
    assert (image.shape, image.dtype) == ((1, 32, 64, kind.depth), kind.dtype)
    assert set(encoded.inputs) == {"map_bytes", "photo_bytes"}
    decoded, problem = served.decode_file(tf.constant(tf.make_ndarray(encoded.inputs["map_bytes"])[0]), kind)
    assert problem == b""
    np.testing.assert_array_equal(decoded, image[0])


@pytest.mark.parametrize("value", [0, 127, 128, 300, 2**32])
def test_lengths_are_written_as_protobuf_does(value):
    from google.protobuf.internal.encoder import _VarintBytes

    assert warmup._varint(value) == _VarintBytes(value)
