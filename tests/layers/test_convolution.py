import keras
import numpy as np
import pytest
import tensorflow as tf

from p2p_keras.layers import convolution


def _assert_as_keras(layer_class, filters, x, dtype, within, **arguments):
    """Output, and gradients of input, kernel and bias, of our layer in a dtype and of Keras' own in float32.

    Inputs and weights are numbers that the dtype holds, so that only what is computed differs.
    """
    ours = getattr(convolution, layer_class)(filters, dtype=dtype, **arguments)
    theirs = getattr(keras.layers, layer_class)(filters, **arguments)
    rng = np.random.RandomState(1)
    weights, upstream, found = None, None, []
    for layer in (theirs, ours):
        layer.build(x.shape)
        weights = weights or [_held(rng.normal(0, 0.1, weight.shape), ours) for weight in layer.weights]
        layer.set_weights(weights)
        inputs = tf.cast(_held(x, ours), layer.compute_dtype)
        if upstream is None:
            upstream = _held(rng.normal(size=layer(inputs).shape), ours)

        @tf.function(autograph=False)
        def run(inputs, layer=layer, upstream=upstream):
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                y = layer(inputs)
                loss = tf.reduce_sum(tf.cast(y, tf.float32) * upstream)
            return y, *tape.gradient(loss, [inputs, *layer.trainable_variables])

        found.append(run(inputs))
    for name, expected, one in zip(("output", "input", "kernel", "bias"), *found, strict=False):
        expected, one = (np.array(tf.cast(value, tf.float32)) for value in (expected, one))
        np.testing.assert_allclose(one, expected, atol=within * np.abs(expected).max(), rtol=0, err_msg=name)


def _held(values, layer) -> np.ndarray:
    """float32 numbers that the layer's compute dtype holds."""
    return np.array(tf.cast(tf.cast(values, layer.compute_dtype), tf.float32))


# In float32 sums in another order; in bfloat16 what is added up is rounded to 8 bits, on either way at other places.
DTYPES = pytest.mark.parametrize(
    ("dtype", "within"), [("float32", 1e-5), ("mixed_bfloat16", 2**-7)], ids=["f32", "bf16"]
)
# On both sides of every rule: 64 pixels in a map, 256 and 2048 in a batch, 128 channels, 4 channels; not square.
SHAPES = [
    (2, 2, 2, 5),
    (9, 8, 8, 6),
    (2, 4, 16, 7),
    (1, 16, 16, 128),
    (2, 18, 10, 130),
    (3, 32, 24, 5),
    (3, 24, 32, 128),
]


@DTYPES
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_convolution_is_keras_own(shape, bias, dtype, within):
    x = np.random.RandomState(0).normal(size=shape).astype(np.float32)
    _assert_as_keras("Conv2D", 9, x, dtype, within, kernel_size=4, strides=2, padding="same", use_bias=bias)


@DTYPES
@pytest.mark.parametrize("filters", [3, 5, 130])
@pytest.mark.parametrize("shape", [(2, 1, 1, 5), (9, 4, 4, 6), (1, 8, 8, 7), (2, 6, 12, 3), (3, 16, 12, 4)], ids=str)
def test_the_transposed_convolution_is_keras_own(shape, filters, dtype, within):
    x = np.random.RandomState(0).normal(size=shape).astype(np.float32)
    _assert_as_keras("Conv2DTranspose", filters, x, dtype, within, kernel_size=4, strides=2, padding="same")


@DTYPES
@pytest.mark.parametrize(("shape", "filters"), [((2, 7, 6, 5), 4), ((1, 9, 12, 128), 130), ((1, 9, 12, 128), 1)])
def test_the_convolution_of_stride_1_is_keras_own(shape, filters, dtype, within):
    x = np.random.RandomState(0).normal(size=shape).astype(np.float32)
    _assert_as_keras("Conv2D", filters, x, dtype, within, kernel_size=4, strides=1, padding="valid")


@DTYPES
@pytest.mark.parametrize("shape", [(2, 2, 2, 5), (1, 16, 16, 128), (3, 12, 20, 6)])
def test_resizing_and_convolving_is_what_it_says(shape, dtype, within):
    """Against the two steps in float32, output and all gradients.

    In bfloat16 the sums of up to four of the kernel's numbers are rounded, too: twice what the others may be off.
    """
    layer = convolution.ResizeConv2D(7, 4, 2, "same", dtype=dtype)
    layer.build(shape)
    rng = np.random.RandomState(0)
    x = _held(rng.normal(size=shape), layer)
    kernel = _held(rng.normal(0, 0.1, layer.kernel.shape), layer)
    upstream = _held(rng.normal(size=(shape[0], 2 * shape[1], 2 * shape[2], 7)), layer)
    bias = _held(rng.normal(size=7), layer)
    layer.set_weights([kernel, bias])
    found = []
    for ours in (False, True):
        inputs, weights = tf.constant(x), [tf.constant(kernel), tf.constant(bias)]
        with tf.GradientTape() as tape:
            tape.watch([inputs, *weights])
            if ours:
                y = layer(tf.cast(inputs, layer.compute_dtype))
            else:
                wide = tf.repeat(tf.repeat(inputs, 2, axis=1), 2, axis=2)
                turned = tf.transpose(weights[0][::-1, ::-1], (0, 1, 3, 2))
                y = tf.nn.conv2d(wide, turned, 1, "SAME") + weights[1]
            loss = tf.reduce_sum(tf.cast(y, tf.float32) * upstream)
        found.append([y, *tape.gradient(loss, [inputs, *(layer.trainable_variables if ours else weights)])])
    for name, expected, one in zip(("output", "input", "kernel", "bias"), *found, strict=True):
        expected, one = (np.array(tf.cast(value, tf.float32)) for value in (expected, one))
        np.testing.assert_allclose(one, expected, atol=2 * within * np.abs(expected).max(), rtol=0, err_msg=name)


def test_it_is_a_transposed_convolution_of_another_kernel_and_back():
    layer = convolution.ResizeConv2D(3, 4, 2, "same")
    x = np.random.RandomState(0).normal(size=(2, 6, 4, 5)).astype(np.float32)
    expected, (kernel, bias) = layer(x), layer.get_weights()
    plain = keras.layers.Conv2DTranspose(3, 4, 2, "same")
    plain.build(x.shape)
    plain.set_weights([convolution.to_transposed(kernel), bias])
    np.testing.assert_allclose(plain(x), expected, rtol=0, atol=1e-6)  # sums in another order
    again = convolution.from_transposed(convolution.to_transposed(kernel))
    np.testing.assert_allclose(again, kernel, rtol=0, atol=1e-7)


def test_any_other_convolution_is_left_to_keras():
    x = np.random.RandomState(0).normal(size=(2, 7, 7, 3)).astype(np.float32)
    for arguments in ({"kernel_size": 1}, {"kernel_size": 4, "strides": 2, "padding": "same"}):  # 7 is odd
        _assert_as_keras("Conv2D", 5, x, "float32", 1e-6, **arguments)


@pytest.mark.parametrize("layer", [convolution.Conv2D, convolution.Conv2DTranspose])
def test_maps_of_unknown_size_give_the_same(layer):
    """In a graph that is traced without it, as in an export for images of any size."""
    image = keras.Input((None, None, 3))
    ours, theirs = layer(4, 4, 2, "same"), getattr(keras.layers, layer.__name__)(4, 4, 2, "same")
    model = keras.Model(image, ours(image))
    theirs.build((None, None, None, 3))
    theirs.set_weights(ours.get_weights())
    run = tf.function(model, input_signature=[tf.TensorSpec((None, None, None, 3))], autograph=False)
    for height, width in ((2, 2), (8, 6), (24, 64)):
        x = np.random.RandomState(0).normal(size=(2, height, width, 3)).astype(np.float32)
        np.testing.assert_allclose(run(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_a_bias_gradient_keeps_its_small_terms():
    """65,536 times 1/64 in bfloat16: a sum of 1024 would already have dropped them, for its steps are of 4."""
    upstream = tf.fill((1, 256, 256, 1), tf.constant(1 / 64, tf.bfloat16))
    bias = tf.constant([0.0], tf.bfloat16)
    with tf.GradientTape() as tape:
        tape.watch(bias)
        loss = tf.reduce_sum(convolution._add_bias(tf.zeros_like(upstream), bias) * upstream)
    assert float(tape.gradient(loss, bias)[0]) == 1024.0
