"""Convolutions whose gradients, and on small maps whose results, are matrix products: the same numbers, sooner.

A convolution of kernel 4 and stride 2 and its transpose are made of three computations, between a large map
(B, 2h, 2w, c) and a small one (B, h, w, o) by a kernel (4, 4, c, o): `_halve`, `_double`, and `_kernel_gradient`. Both
layers and all of their gradients are put together of these three. Which form a computation takes follows from shapes
alone:

- On maps of up to 8x8, and in batches of up to 256 pixels, the weights outnumber the pixels, and a product reads them
  once, as they lie in memory.
- TensorFlow's kernel for the gradient of the weights is about half as fast as a matrix product, and a fifth where there
  are many channels on a small map. For one product each pixel is copied 16 times, for four products 4 times; but the
  results of four have to be put in order. So it is one in batches of up to 2048 pixels, and four in larger ones if
  there are 128 channels or more, whose multiplications outweigh the copying. At stride 1 four products are faster in
  bfloat16 alone.
- Into up to 4 channels, as an image has, doubling is mostly summing up, which a product does at once.

The figures are in benchmarks/README.md.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

_KERNEL = 4
_PAIRS = np.eye(4, 3) + np.eye(4, 3, -1)  # of a kernel of 3, one of 4: each the sum of two neighbours
_SPREAD = np.kron(_PAIRS, _PAIRS)  # (16, 9), the same in both directions


@keras.saving.register_keras_serializable("p2p_keras")
class Conv2D(keras.layers.Conv2D):
    """Keras' layer of this name, of kernel 4: stride 2 with padding "same", or stride 1 with padding "valid".

    Any other convolution is computed by Keras.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """(B, H, W, c) -> (B, H / 2, W / 2, o), or (B, H - 3, W - 3, o)."""
        form = (self.kernel_size, self.strides, self.padding)
        if form == ((4, 4), (2, 2), "same") and _is_even(inputs):
            outputs = _convolve_by_two(inputs, tf.convert_to_tensor(self.kernel))
        elif form == ((4, 4), (1, 1), "valid"):
            outputs = _convolve(inputs, tf.convert_to_tensor(self.kernel))
        else:
            return super().call(inputs)
        return _add_bias(outputs, tf.convert_to_tensor(self.bias)) if self.use_bias else outputs


@keras.saving.register_keras_serializable("p2p_keras")
class Conv2DTranspose(keras.layers.Conv2DTranspose):
    """Keras' layer of this name, of kernel 4, stride 2 and padding "same". Any other is computed by Keras."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """(B, H, W, o) -> (B, 2 H, 2 W, c)."""
        if (self.kernel_size, self.strides, self.padding) != ((4, 4), (2, 2), "same"):
            return super().call(inputs)
        outputs = _convolve_transposed(inputs, tf.convert_to_tensor(self.kernel))
        return _add_bias(outputs, tf.convert_to_tensor(self.bias)) if self.use_bias else outputs


@keras.saving.register_keras_serializable("p2p_keras")
class ResizeConv2D(Conv2DTranspose):
    """Doubles a map by repeating each pixel, then convolves it with a kernel of 3 and padding "same".

    Computed as a transposed convolution of kernel 4, as fast as one: every pixel of the large map sees 2x2 of the small
    one, three of the kernel's weights falling on two pixels. The weight (3, 3, c, o) is that of the convolution turned
    by 180 degrees. Takes the arguments of a `Conv2DTranspose` of kernel 4, stride 2 and padding "same".
    """

    def build(self, input_shape: tuple) -> None:
        """As the base's, but for the kernel (3, 3, c, o)."""
        self.kernel_size = (3, 3)
        super().build(input_shape)
        self.kernel_size = (_KERNEL, _KERNEL)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """(B, H, W, o) -> (B, 2 H, 2 W, c)."""
        kernel = tf.convert_to_tensor(self.kernel)
        c, o = kernel.shape[2:]
        kernel = tf.matmul(tf.constant(_SPREAD, kernel.dtype), tf.reshape(kernel, (9, c * o)))
        outputs = _convolve_transposed(inputs, tf.reshape(kernel, (_KERNEL, _KERNEL, c, o)))
        return _add_bias(outputs, tf.convert_to_tensor(self.bias)) if self.use_bias else outputs


def to_transposed(kernel: np.ndarray) -> np.ndarray:
    """The kernel (4, 4, c, o) of the transposed convolution that a `ResizeConv2D` of kernel (3, 3, c, o) is."""
    return np.tensordot(_SPREAD, kernel.reshape(9, -1), 1).reshape(4, 4, *kernel.shape[2:]).astype(np.float32)


def from_transposed(kernel: np.ndarray) -> np.ndarray:
    """The inverse of `to_transposed`."""
    return np.tensordot(np.linalg.pinv(_SPREAD), kernel.reshape(16, -1), 1).reshape(3, 3, *kernel.shape[2:])


@tf.custom_gradient
def _convolve_by_two(large: tf.Tensor, kernel: tf.Tensor):
    def gradient(small: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return _double(small, kernel), _kernel_gradient(large, small)

    return _halve(large, kernel), gradient


@tf.custom_gradient
def _convolve_transposed(small: tf.Tensor, kernel: tf.Tensor):
    def gradient(large: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return _halve(large, kernel), _kernel_gradient(large, small)

    return _double(small, kernel), gradient


@tf.custom_gradient
def _convolve(large: tf.Tensor, kernel: tf.Tensor):
    """Stride 1: (B, h + 3, w + 3, c) -> (B, h, w, o)."""

    def gradient(small: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        back = tf.raw_ops.Conv2DBackpropInput(
            input_sizes=tf.shape(large), filter=kernel, out_backprop=small, strides=[1, 1, 1, 1], padding="VALID"
        )
        return back, _kernel_gradient_of_stride_1(large, small)

    return tf.nn.conv2d(large, kernel, 1, "VALID"), gradient


@tf.custom_gradient
def _add_bias(outputs: tf.Tensor, bias: tf.Tensor):
    """Adds a bias, the gradient of which is summed in float32: in bfloat16 most of 65,536 terms would be lost."""

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        total = tf.reduce_sum(tf.cast(upstream, tf.float32), axis=[0, 1, 2])
        return upstream, tf.cast(total, bias.dtype)

    return tf.nn.bias_add(outputs, bias), gradient


def _halve(large: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """(B, 2h, 2w, c) -> (B, h, w, o): the convolution."""
    if not _is_small(large.shape, 256):
        return tf.nn.conv2d(large, kernel, 2, "SAME")
    c, o = kernel.shape[2:]
    small = tf.matmul(tf.reshape(_patches(large), (-1, 16 * c)), tf.reshape(kernel, (16 * c, o)))
    return tf.reshape(small, (-1, large.shape[1] // 2, large.shape[2] // 2, o))


def _double(small: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """(B, h, w, o) -> (B, 2h, 2w, c): the transposed convolution."""
    _, h, w, o = small.shape
    c = kernel.shape[2]
    if h is None or w is None or not (_is_small((small.shape[0], 2 * h, 2 * w), 256) or c <= 4):
        size = tf.shape(small)
        return tf.nn.conv2d_transpose(small, kernel, (size[0], 2 * size[1], 2 * size[2], c), 2, "SAME")
    pieces = tf.matmul(tf.reshape(small, (-1, o)), tf.reshape(kernel, (16 * c, o)), transpose_b=True)
    # Rows 0 and 1 of the kernel (a = 0), and 2 and 3 (a = 1), fall on pairs of rows one pixel of the small map apart;
    # so do its columns.
    pieces = tf.transpose(tf.reshape(pieces, (-1, h, w, 2, 2, 2, 2, c)), (3, 5, 0, 1, 4, 2, 6, 7))
    columns = [tf.concat([pieces[0, b], tf.zeros_like(pieces[0, b, :, :1])], 1) for b in (0, 1)]
    below = [tf.concat([tf.zeros_like(pieces[1, b, :, :1]), pieces[1, b]], 1) for b in (0, 1)]
    left, right = (one + other for one, other in zip(columns, below, strict=True))  # (B, h + 1, 2, w, 2, c)
    edge = tf.zeros_like(left[:, :, :, :1])
    padded = tf.concat([left, edge], 3) + tf.concat([edge, right], 3)  # (B, h + 1, 2, w + 1, 2, c)
    return tf.reshape(padded, (-1, 2 * h + 2, 2 * w + 2, c))[:, 1:-1, 1:-1]


def _kernel_gradient(large: tf.Tensor, small: tf.Tensor) -> tf.Tensor:
    """The gradient of the kernel, (4, 4, c, o)."""
    c, o = large.shape[-1], small.shape[-1]
    rows = tf.reshape(small, (-1, o))
    if _is_small(large.shape, 2048):
        return tf.reshape(
            tf.matmul(tf.reshape(_patches(large), (-1, 16 * c)), rows, transpose_a=True), (_KERNEL, _KERNEL, c, o)
        )
    if c < 128:
        return _kernel_gradient_by_tensorflow(large, small, 2, "SAME")
    # A kernel of 4 and stride 2 is one of 2 and stride 1 over the map with each 2x2 pixels in one, (B, h+1, w+1, 4c).
    deep = tf.nn.space_to_depth(tf.pad(large, [[0, 0], [1, 1], [1, 1], [0, 0]]), 2)
    h, w = tf.shape(small)[1], tf.shape(small)[2]
    views = [lambda i=i, j=j: deep[:, i : i + h, j : j + w] for i in range(2) for j in range(2)]
    products = _products(views, rows)
    kernel = tf.reshape(tf.stack(products), (2, 2, 2, 2, c, o))  # row and column of the 2x2, then within each
    return tf.reshape(tf.transpose(kernel, (0, 2, 1, 3, 4, 5)), (_KERNEL, _KERNEL, c, o))


def _kernel_gradient_of_stride_1(large: tf.Tensor, small: tf.Tensor) -> tf.Tensor:
    (_, h, w, o), c = small.shape, large.shape[-1]
    if h is None or w is None or c < 128 or o < 128 or large.dtype == tf.float32:
        return _kernel_gradient_by_tensorflow(large, small, 1, "VALID")
    rows = tf.reshape(small, (-1, o))
    wide = tf.concat([large[:, :, j : j + w] for j in range(_KERNEL)], -1)  # (B, h + 3, w, 4c)
    products = _products([lambda i=i: wide[:, i : i + h] for i in range(_KERNEL)], rows)
    return tf.reshape(tf.stack(products), (_KERNEL, _KERNEL, c, o))


def _products(views: Sequence[Callable[[], tf.Tensor]], rows: tf.Tensor) -> list[tf.Tensor]:
    """Of the views (B, h, w, C) of a map, as matrices (B * h * w, C), transposed, with the rows of a small map.

    One after the other, so that only one view at a time is copied: all at once are four times the map.
    """
    products: list[tf.Tensor] = []
    for view in views:
        with tf.control_dependencies(products[-1:]):
            copy = view()
            products.append(tf.matmul(tf.reshape(copy, (-1, copy.shape[-1])), rows, transpose_a=True))
    return products


def _kernel_gradient_by_tensorflow(large: tf.Tensor, small: tf.Tensor, stride: int, padding: str) -> tf.Tensor:
    return tf.raw_ops.Conv2DBackpropFilter(
        input=large,
        filter_sizes=(_KERNEL, _KERNEL, large.shape[-1], small.shape[-1]),
        out_backprop=small,
        strides=[1, stride, stride, 1],
        padding=padding,
    )


def _patches(large: tf.Tensor) -> tf.Tensor:
    """What each pixel of the small map is made of: (B, 2h, 2w, c) -> (B, h, w, 4, 4, c), in the kernel's order."""
    _, height, width, c = large.shape
    h, w = height // 2, width // 2
    pairs = tf.reshape(tf.pad(large, [[0, 0], [1, 1], [1, 1], [0, 0]]), (-1, h + 1, 2, w + 1, 2, c))
    rows = tf.stack([pairs[:, :-1], pairs[:, 1:]], axis=2)  # (B, h, 2, 2, w + 1, 2, c)
    patches = tf.stack([rows[:, :, :, :, :-1], rows[:, :, :, :, 1:]], axis=5)  # (B, h, 2, 2, w, 2, 2, c)
    return tf.reshape(tf.transpose(patches, (0, 1, 4, 2, 3, 5, 6, 7)), (-1, h, w, _KERNEL, _KERNEL, c))


def _is_small(shape: Sequence[int | None], pixels: int) -> bool:
    """Whether a map (B, H, W, ...) is of up to 8x8, or has no more than so many pixels in the whole batch."""
    batch, height, width = shape[:3]
    if height is None or width is None:
        return False
    return height * width <= 64 or (batch is not None and batch * height * width <= pixels)


def _is_even(inputs: tf.Tensor) -> bool:
    """Where "same" pads a pixel on each side. Maps of unknown size are multiples of the size trained on."""
    return all(size is None or size % 2 == 0 for size in inputs.shape[1:3])
