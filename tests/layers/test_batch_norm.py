import keras
import numpy as np
import pytest
import tensorflow as tf

from p2p_keras.layers.batch_norm import BatchNorm


def _pair(dtype):
    """Ours and Keras' own, with the same weights."""
    layers = BatchNorm(dtype=dtype), keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype=dtype)
    rng = np.random.RandomState(0)
    for layer in layers:
        layer.build((None, None, None, 5))
    weights = [rng.uniform(0.5, 1.5, 5).astype(np.float32) for _ in range(4)]
    for layer in layers:
        layer.set_weights(weights)
    return layers


@pytest.mark.parametrize(
    ("dtype", "within"),
    [("float32", 1e-5), ("mixed_bfloat16", 2**-7)],  # a bfloat16 has 8 bits, and is rounded to on either way
    ids=["float32", "bfloat16"],
)
@pytest.mark.parametrize("shape", [(3, 7, 6, 5), (1, 2, 2, 5), (8, 1, 1, 5)], ids=str)
def test_training_is_keras_own(dtype, within, shape):
    """Output, gradients of the input and of both weights, and the moving averages; odd and tiny maps too."""
    rng = np.random.RandomState(1)
    x, upstream = rng.normal(0.3, 2.0, shape).astype(np.float32), rng.normal(size=shape).astype(np.float32)
    found = []
    for layer in _pair(dtype):
        inputs = tf.cast(x, layer.compute_dtype)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            y = layer(inputs, training=True)
            loss = tf.reduce_sum(tf.cast(y, tf.float32) * upstream)
        gradients = tape.gradient(loss, [inputs, *layer.trainable_variables])
        assert y.dtype == layer.compute_dtype
        found.append([np.array(tf.cast(value, tf.float32)) for value in (y, *gradients, *layer.weights)])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=within * np.abs(theirs).max() * 4)


def test_the_moving_variance_is_the_one_by_n():
    """The fused kernel's own is by N - 1, which over a map of 2x2 at batch 1 would be a third more."""
    layer = BatchNorm()
    x = np.random.RandomState(0).normal(size=(1, 2, 2, 3)).astype(np.float32)
    layer(x, training=True)
    np.testing.assert_allclose(layer.moving_variance, 0.9 + 0.1 * x.reshape(4, 3).var(axis=0), rtol=1e-6)


def test_inference_is_by_the_moving_averages_or_by_each_images_own():
    ours, theirs = _pair("float32")
    x = np.random.RandomState(1).normal(size=(3, 4, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(
        ours(x, training=False), theirs(x, training=False), rtol=1e-6, atol=1e-6
    )  # near 0 one bit of what is added up
    ours.per_image_statistics = True
    alone = np.concatenate([ours(x[i : i + 1], training=False) for i in range(3)])
    np.testing.assert_allclose(ours(x, training=False), alone, rtol=1e-5)  # eagerly; graphs are compared elsewhere
    np.testing.assert_allclose(alone[:1], theirs(x[:1], training=True), rtol=1e-4, atol=1e-5)
