"""The U-Net generator and the PatchGAN discriminator of pix2pix as Keras functional models (Isola et al. 2017, section
6.1).

Kept from the original Torch code (`models.lua`) where tutorials differ from it: LeakyReLU slope 0.2, batch norm
momentum 0.9 and epsilon 1e-5, weights from N(0, 0.02), skip connections that carry the convolution's output before its
activation (the decoder applies its own ReLU), no batch norm on the innermost layer (over a 1x1 map at batch 1 it would
output zero).

Departures: no bias where batch norm follows and removes it (as in the PyTorch version); dropout noise comes from an
explicit seed for each image instead of hidden state.
"""

from collections.abc import Callable

import keras
import tensorflow as tf

from p2p_keras.layers.batch_norm import BatchNorm
from p2p_keras.layers.convolution import Conv2D, Conv2DTranspose, ResizeConv2D
from p2p_keras.layers.leaky_relu import LeakyReLU
from p2p_keras.layers.noise import NoiseDropout
from p2p_keras.rules import DISCRIMINATOR_STRIDED_LAYERS
from p2p_keras.sizes import Size, to_size

LEAKY_SLOPE = 0.2


def build_generator(
    image_size: int | Size = 256,
    input_channels: int = 3,
    output_channels: int = 3,
    base_filters: int = 64,
    per_image_statistics: bool = False,
    dtype: str = "float32",
    any_size: bool = False,
    noise: bool = True,
    compact_weights: bool = False,
    upsampling: str = "transposed",
) -> keras.Model:
    """U-Net: as many halvings as `image_size` allows, 256x256 down to 1x1, and back, layer i joined to layer n - i.

    At 256: encoder C64-C128-C256-C512-C512-C512-C512-C512, decoder CD512-CD512-CD512-C512-C256-C128-C64, then a
    convolution to the output and tanh; 54.4 million parameters.

    Args:
        image_size: Height and width (H, W) below, or one number for both. As often as both can be halved, which is at
            least three times, the generator does: 256x256 to 1x1, 256x512 to 1x2, 256x320 to 4x5.
        input_channels: Channels of the input image, of several images all together.
        output_channels: Channels of the generated image.
        base_filters: 64 in the paper; the deepest layers have 8 times as many.
        per_image_statistics: See `BatchNorm`.
        dtype: Keras dtype policy, as `float32` or `mixed_bfloat16`. The output stays float32, and so do the weights,
            unless they are compact.
        any_size: Take images whose height and width can be halved as often, with the same layers.
        noise: With the layers that draw noise; without, the model takes the input image alone.
        compact_weights: For inference: the convolutions keep their weights in what they compute in. In bfloat16 the
            results are the same, the weights take half the memory, and no batch waits for them to be cast.
        upsampling: `transposed`, or `resize` for a decoder of `ResizeConv2D`, which does not begin with the
            checkerboard of a transposed convolution (Odena et al. 2016). Not in the paper.

    Returns:
        `generator([input_image, noise_seed], training=...)`: input_image (B, H, W, input_channels) in [-1, 1];
        noise_seed int32 (B, 2), or None for no dropout noise; result float32 (B, H, W, output_channels) in [-1, 1].
    """
    size = to_size(image_size)
    depth = size.halvings
    if depth < 3:
        raise ValueError(f"image_size must be multiples of 8. Received: {size}")
    filters = [base_filters * min(2**i, 8) for i in range(depth)]

    upsample = ResizeConv2D if upsampling == "resize" else Conv2DTranspose
    conv_dtype = keras.DTypePolicy(dtype).compute_dtype if compact_weights else dtype
    sides = (None, None) if any_size else size
    input_image = keras.Input((*sides, input_channels), name="input_image")
    noise_seed = keras.Input((2,), dtype="int32", optional=True, name="noise_seed") if noise else None

    x, skips = input_image, []
    for i, channels in enumerate(filters):
        if i > 0:
            x = LeakyReLU(LEAKY_SLOPE, dtype=dtype)(x)
        normalised = 0 < i < depth - 1
        # (B, H / 2^i, W / 2^i, ...) -> (B, H / 2^(i+1), W / 2^(i+1), channels)
        x = _conv(channels, 2, "same", use_bias=not normalised, dtype=conv_dtype, name=f"down{i + 1}")(x)
        if normalised:
            x = BatchNorm(per_image_statistics, dtype=dtype, name=f"down{i + 1}_norm")(x)
        skips.append(x)

    for i in reversed(range(depth - 1)):
        x = keras.layers.ReLU(dtype=dtype)(x)
        # (B, H / 2^(i+2), ...) -> (B, H / 2^(i+1), ...)
        x = _double(upsample, filters[i], use_bias=False, dtype=conv_dtype, name=f"up{i + 1}")(x)
        x = BatchNorm(per_image_statistics, dtype=dtype, name=f"up{i + 1}_norm")(x)
        if noise and i >= depth - 4:  # the three innermost carry the noise: CD512-CD512-CD512
            x = NoiseDropout(0.5, salt=i, dtype=dtype, name=f"up{i + 1}_noise")(x, noise_seed)
        x = keras.layers.Concatenate(dtype=dtype)([x, skips[i]])

    x = keras.layers.ReLU(dtype=dtype)(x)
    x = _double(upsample, output_channels, use_bias=True, dtype=conv_dtype, name="output")(x)
    x = keras.layers.Activation("tanh", dtype="float32", name="generated_image")(x)
    return keras.Model([input_image, noise_seed] if noise else input_image, x, name="generator")


def make_inference(generator: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """The generator by its inference contract, no noise and `training=False`, as a graph.

    Returns:
        A function of float32 (B, H, W, C) in [-1, 1], any B, to the generated images of the same form.
    """
    signature = tf.TensorSpec((None, *generator.inputs[0].shape[1:]), tf.float32)
    return tf.function(lambda image: generator([image, None], training=False), input_signature=[signature])


def build_discriminator(
    kind: str = "patch70",
    image_size: int | Size = 256,
    input_channels: int = 3,
    target_channels: int = 3,
    base_filters: int = 64,
    dtype: str = "float32",
    normalisation: str = "batch",
) -> keras.Model:
    """PatchGAN: one logit for each overlapping patch, from input and target image together.

    Args:
        kind: `patch70` C64-C128-C256-C512, 30x30 logits at 256; `patch16` C64-C128; `patch286`
            C64-C128-C256-C512-C512-C512; `pixel` C64-C128 of 1x1 convolutions; `compact` the report's n -> 32 n/2 -> 64
            n/4 -> 128 n/8 -> 1 n/8 (half of `base_filters` first), whose patches measure 46 pixels.
        image_size: Height and width (H, W) below, or one number for both.
        input_channels: Channels of the input image, of several images all together.
        target_channels: Channels of the target image.
        base_filters: 64 in the paper.
        dtype: Keras dtype policy. Weights and logits stay float32.

    Returns:
        `discriminator([input_image, target_image], training=...)`: both (B, H, W, C) in [-1, 1]; logits float32 (B, h,
        w, 1).
    """
    strided = DISCRIMINATOR_STRIDED_LAYERS[kind]
    size = to_size(image_size)
    input_image = keras.Input((*size, input_channels), name="input_image")
    target_image = keras.Input((*size, target_channels), name="target_image")
    x = keras.layers.Concatenate(dtype=dtype)([input_image, target_image])  # (B, H, W, channels of both)

    def block(x, channels, strides, name, kernel=4, norm=True):
        padding = "valid" if strides == 1 and kernel == 4 else "same"
        if padding == "valid":  # the original pads by one pixel, so every such layer shrinks the map by one
            x = keras.layers.ZeroPadding2D(1, dtype=dtype)(x)
        norm = norm and normalisation != "spectral"
        x = _spectral(_conv(channels, strides, padding, use_bias=not norm, dtype=dtype, kernel=kernel, name=name), normalisation)(x)
        if norm:
            x = BatchNorm(dtype=dtype, name=f"{name}_norm")(x)
        return LeakyReLU(LEAKY_SLOPE, dtype=dtype)(x)

    if kind == "pixel":
        x = block(x, base_filters, 1, "conv1", kernel=1, norm=False)
        x = block(x, base_filters * 2, 1, "conv2", kernel=1)
        x = _conv(1, 1, "same", use_bias=True, dtype=dtype, kernel=1, name="patches")(x)
    elif kind == "compact":
        for i in range(strided):
            x = block(x, base_filters // 2 * 2**i, 2, f"conv{i + 1}", norm=i > 0)
        x = _conv(1, 1, "same", use_bias=True, dtype=dtype, name="patches")(x)
    else:
        for i in range(strided):
            x = block(x, base_filters * min(2**i, 8), 2, f"conv{i + 1}", norm=i > 0)
        x = block(x, base_filters * min(2**strided, 8), 1, f"conv{strided + 1}")
        x = keras.layers.ZeroPadding2D(1, dtype=dtype)(x)
        x = _spectral(_conv(1, 1, "valid", use_bias=True, dtype=dtype, name="patches"), normalisation)(x)
    logits = keras.layers.Activation("linear", dtype="float32", name="logits")(x)  # (B, h, w, 1)
    return keras.Model([input_image, target_image], logits, name="discriminator")


def _spectral(layer, normalisation):
    return layer if normalisation == "batch" else SpectralConv2D.from_config(layer.get_config())


@keras.saving.register_keras_serializable("p2p_keras")
class SpectralConv2D(Conv2D):
    """One power iteration a call in training, as Miyato et al. 2018."""

    def build(self, input_shape):
        super().build(input_shape)
        self.u = self.add_weight(
            name="u", shape=(1, self.filters), initializer="random_normal", trainable=False, dtype="float32", aggregation="mean",
        )

    def call(self, inputs, training=False):
        raw = tf.convert_to_tensor(self._kernel)
        w = tf.reshape(tf.cast(raw, tf.float32), (-1, self.filters))
        u = tf.convert_to_tensor(self.u)
        v = tf.math.l2_normalize(tf.matmul(u, w, transpose_b=True))
        u = tf.math.l2_normalize(tf.matmul(v, w))
        v, u = tf.stop_gradient(v), tf.stop_gradient(u)
        if training:
            self.u.assign(u)
        sigma = tf.matmul(tf.matmul(v, w), u, transpose_b=True)
        self._normalised = tf.cast(tf.reshape(w / sigma, raw.shape), inputs.dtype)
        return self._apply(inputs, self._normalised)

    def _apply(self, inputs, kernel):
        from p2p_keras.layers import convolution as c

        if self.strides == (2, 2):
            outputs = c._convolve_by_two(inputs, kernel)
        else:
            outputs = c._convolve(inputs, kernel)
        return c._add_bias(outputs, tf.cast(tf.convert_to_tensor(self.bias), inputs.dtype)) if self.use_bias else outputs


def _conv(channels, strides, padding, use_bias, dtype, name, kernel=4):
    return Conv2D(
        channels,
        kernel,
        strides,
        padding,
        use_bias=use_bias,
        kernel_initializer=keras.initializers.RandomNormal(0.0, 0.02),
        dtype=dtype,
        name=name,
    )


def _double(layer, channels, use_bias, dtype, name):
    return layer(
        channels,
        4,
        2,
        "same",
        use_bias=use_bias,
        kernel_initializer=keras.initializers.RandomNormal(0.0, 0.02),
        dtype=dtype,
        name=name,
    )
