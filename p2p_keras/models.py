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

from p2p_keras.config import DISCRIMINATOR_STRIDED_LAYERS
from p2p_keras.layers.batch_norm import BatchNorm
from p2p_keras.layers.convolution import Conv2D, Conv2DTranspose
from p2p_keras.layers.leaky_relu import LeakyReLU
from p2p_keras.layers.noise import NoiseDropout

LEAKY_SLOPE = 0.2


def build_generator(
    image_size: int = 256,
    input_channels: int = 3,
    output_channels: int = 3,
    base_filters: int = 64,
    per_image_statistics: bool = False,
    dtype: str = "float32",
    any_size: bool = False,
    noise: bool = True,
    compact: bool = False,
) -> keras.Model:
    """U-Net: as many halvings as lead from `image_size` to 1x1, and back, layer i joined to layer n - i.

    At 256: encoder C64-C128-C256-C512-C512-C512-C512-C512, decoder CD512-CD512-CD512-C512-C256-C128-C64, then a
    convolution to the output and tanh; 54.4 million parameters.

    Args:
        image_size: Power of two, at least 8.
        input_channels: Channels of the input image.
        output_channels: Channels of the generated image.
        base_filters: 64 in the paper; the deepest layers have 8 times as many.
        per_image_statistics: See `BatchNorm`.
        dtype: Keras dtype policy, as `float32` or `mixed_bfloat16`. Output and, unless `compact`, weights stay float32.
        any_size: Take images whose height and width are any multiples of `image_size`, with the same layers.
        noise: With the layers that draw noise; without, the model takes the input image alone.
        compact: For inference: the convolutions keep their weights in what they compute in. In bfloat16 the results are
            the same, half the memory is taken, and no batch waits for the weights to be cast.

    Returns:
        `generator([input_image, noise_seed], training=...)`: input_image (B, S, S, input_channels) in [-1, 1];
        noise_seed int32 (B, 2), or None for no dropout noise; result float32 (B, S, S, output_channels) in [-1, 1].
    """
    depth = image_size.bit_length() - 1
    if image_size != 2**depth or depth < 3:
        raise ValueError(f"image_size must be a power of two, at least 8. Received: {image_size}")
    filters = [base_filters * min(2**i, 8) for i in range(depth)]

    conv_dtype = keras.DTypePolicy(dtype).compute_dtype if compact else dtype
    size = None if any_size else image_size
    input_image = keras.Input((size, size, input_channels), name="input_image")
    noise_seed = keras.Input((2,), dtype="int32", optional=True, name="noise_seed") if noise else None

    x, skips = input_image, []
    for i, channels in enumerate(filters):
        if i > 0:
            x = LeakyReLU(LEAKY_SLOPE, dtype=dtype)(x)
        normalised = 0 < i < depth - 1
        x = _conv(channels, 2, "same", use_bias=not normalised, dtype=conv_dtype, name=f"down{i + 1}")(
            x
        )  # (B, S / 2^(i+1), ...)
        if normalised:
            x = BatchNorm(per_image_statistics, dtype=dtype, name=f"down{i + 1}_norm")(x)
        skips.append(x)

    for i in reversed(range(depth - 1)):
        x = keras.layers.ReLU(dtype=dtype)(x)
        x = _conv_transpose(filters[i], use_bias=False, dtype=conv_dtype, name=f"up{i + 1}")(x)  # (B, S / 2^(i+1), ...)
        x = BatchNorm(per_image_statistics, dtype=dtype, name=f"up{i + 1}_norm")(x)
        if noise and i >= depth - 4:  # the three innermost carry the noise: CD512-CD512-CD512
            x = NoiseDropout(0.5, salt=i, dtype=dtype, name=f"up{i + 1}_noise")(x, noise_seed)
        x = keras.layers.Concatenate(dtype=dtype)([x, skips[i]])

    x = keras.layers.ReLU(dtype=dtype)(x)
    x = _conv_transpose(output_channels, use_bias=True, dtype=conv_dtype, name="output")(x)
    x = keras.layers.Activation("tanh", dtype="float32", name="generated_image")(x)
    return keras.Model([input_image, noise_seed] if noise else input_image, x, name="generator")


def make_inference(generator: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """The generator by its inference contract, no noise and `training=False`, as a graph.

    Returns:
        A function of float32 (B, S, S, C) in [-1, 1], any B, to the generated images of the same form.
    """
    signature = tf.TensorSpec((None, *generator.inputs[0].shape[1:]), tf.float32)
    return tf.function(lambda image: generator([image, None], training=False), input_signature=[signature])


def build_discriminator(
    kind: str = "patch70",
    image_size: int = 256,
    input_channels: int = 3,
    target_channels: int = 3,
    base_filters: int = 64,
    dtype: str = "float32",
) -> keras.Model:
    """PatchGAN: one logit for each overlapping patch, from input and target image together.

    Args:
        kind: `patch70` C64-C128-C256-C512, 30x30 logits at 256; `patch16` C64-C128; `patch286`
            C64-C128-C256-C512-C512-C512; `pixel` C64-C128 of 1x1 convolutions; `compact` the report's n -> 32 n/2 -> 64
            n/4 -> 128 n/8 -> 1 n/8 (half of `base_filters` first), whose patches measure 46 pixels.
        image_size: Height and width, pixels.
        input_channels: Channels of the input image.
        target_channels: Channels of the target image.
        base_filters: 64 in the paper.
        dtype: Keras dtype policy. Weights and logits stay float32.

    Returns:
        `discriminator([input_image, target_image], training=...)`: both (B, S, S, C) in [-1, 1]; logits float32 (B, h,
        w, 1).
    """
    strided = DISCRIMINATOR_STRIDED_LAYERS[kind]
    input_image = keras.Input((image_size, image_size, input_channels), name="input_image")
    target_image = keras.Input((image_size, image_size, target_channels), name="target_image")
    x = keras.layers.Concatenate(dtype=dtype)(
        [input_image, target_image]
    )  # (B, S, S, input_channels + target_channels)

    def block(x, channels, strides, name, kernel=4, norm=True):
        padding = "valid" if strides == 1 and kernel == 4 else "same"
        if padding == "valid":  # the original pads by one pixel, so every such layer shrinks the map by one
            x = keras.layers.ZeroPadding2D(1, dtype=dtype)(x)
        x = _conv(channels, strides, padding, use_bias=not norm, dtype=dtype, kernel=kernel, name=name)(x)
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
        x = _conv(1, 1, "valid", use_bias=True, dtype=dtype, name="patches")(x)
    logits = keras.layers.Activation("linear", dtype="float32", name="logits")(x)  # (B, h, w, 1)
    return keras.Model([input_image, target_image], logits, name="discriminator")


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


def _conv_transpose(channels, use_bias, dtype, name):
    return Conv2DTranspose(
        channels,
        4,
        2,
        "same",
        use_bias=use_bias,
        kernel_initializer=keras.initializers.RandomNormal(0.0, 0.02),
        dtype=dtype,
        name=name,
    )
