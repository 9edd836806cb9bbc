import keras
import numpy as np
import pytest
import tensorflow as tf

from p2p_keras.layers.leaky_relu import LeakyReLU


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_it_is_keras_own(dtype):
    """To the last bit, at zero too, where the slope is the lower one."""
    x = np.random.RandomState(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    x[0, 0, 0] = [0.0, -0.0, 1e-38, -1e-38, 5.0]
    upstream = tf.random.stateless_normal(x.shape, (1, 2))
    found = []
    for layer in (keras.layers.LeakyReLU(0.2, dtype=dtype), LeakyReLU(0.2, dtype=dtype)):
        inputs = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs)
            loss = tf.reduce_sum(tf.cast(outputs, tf.float32) * upstream)
        found.append((outputs, tape.gradient(loss, inputs)))
    for theirs, ours in zip(*found, strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(np.array(tf.cast(ours, tf.float32)), np.array(tf.cast(theirs, tf.float32)))


def test_its_settings_survive_saving():
    assert LeakyReLU.from_config(LeakyReLU(0.1).get_config()).negative_slope == pytest.approx(0.1)
