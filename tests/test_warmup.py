import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from p2p_keras import warmup


@pytest.mark.parametrize("noise", [False, True])
def test_requests_are_what_tf_serving_reads(tmp_path, noise):
    warmup.write_requests(tmp_path, 32, noise)
    path = tmp_path / "assets.extra" / "tf_serving_warmup_requests"
    logs = []
    for record in tf.data.TFRecordDataset(str(path)):
        log = prediction_log_pb2.PredictionLog()
        log.ParseFromString(record.numpy())
        logs.append(log.predict_log.request)
    assert [
        (log.model_spec.signature_name, len(tf.make_ndarray(log.inputs[name])))
        for log, name in zip(logs, ("image_bytes", "image", "image_bytes", "image"), strict=True)
    ] == [("serving_default", 1), ("translate", 1), ("serving_default", 8), ("translate", 8)]
    assert all(("seed" in log.inputs) is noise for log in logs)
    assert tf.make_ndarray(logs[1].inputs["image"]).shape == (1, 32, 32, 3)
    assert tf.io.decode_png(tf.make_ndarray(logs[0].inputs["image_bytes"])[0]).shape == (32, 32, 3)


@pytest.mark.parametrize("value", [0, 127, 128, 300, 2**32])
def test_lengths_are_written_as_protobuf_does(value):
    from google.protobuf.internal.encoder import _VarintBytes

    assert warmup._varint(value) == _VarintBytes(value)
