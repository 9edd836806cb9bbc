"""Dropout whose noise is a function of a seed given for each image."""

import keras
import tensorflow as tf

_GAMMA = 0x9E3779B97F4A7C15 - 2**64  # as int64, in which TensorFlow's GPU kernels compute; products wrap around
_MULTIPLIERS = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)


@keras.saving.register_keras_serializable("p2p_keras")
class NoiseDropout(keras.layers.Layer):
    """Dropout whose noise is a function of a seed given for each image; without seeds it passes its input on.

    Keras' own Dropout draws the same mask on every replica and keeps its state outside checkpoints. TensorFlow's
    stateless draws take one seed, so that a batch would need a loop.

    Args:
        rate: Share of the elements that become 0; the others are scaled by 1 / (1 - rate).
        salt: A number that tells the layers of one network apart, so that they don't draw from the same stream.
    """

    def __init__(self, rate: float, salt: int, **kwargs) -> None:
        super().__init__(**kwargs)
        self.rate, self.salt = rate, salt

    def call(self, x, seed=None):
        """Drops elements of x (B, H, W, C) by `seed`, int32 (B, 2), or None."""
        if seed is None:
            return x
        shape = tf.shape(x)
        layer_seed = split_mix(tf.bitcast(seed, tf.int64)[:, None], tf.constant([self.salt], tf.int64))  # (B, 1)
        bits = split_mix(layer_seed, tf.range(tf.cast(tf.reduce_prod(shape[1:]), tf.int64)))  # (B, H * W * C)
        uniform = tf.cast(_shift(bits, 40), tf.float32) * 2.0**-24
        keep = tf.reshape(uniform >= self.rate, shape)
        return tf.where(keep, x / (1.0 - self.rate), tf.zeros((), x.dtype))

    def compute_output_shape(self, x_shape, seed_shape=None):
        """The shape of the input."""
        return x_shape

    def get_config(self) -> dict:
        """Adds the arguments of this class to the base's."""
        return {**super().get_config(), "rate": self.rate, "salt": self.salt}


def split_mix(seed: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """Numbers of SplitMix64's stream: 64 random bits each, a function of seed and place alone (Steele, Lea, Flood 2014:
    Fast splittable pseudorandom number generators, figure 14, with the constants of its Java implementation).

    Args:
        seed: int64.
        index: int64, from 0; broadcasts with the seed.

    Returns:
        int64.
    """
    z = seed + (index + 1) * _GAMMA
    for shift, multiplier in zip((30, 27), _MULTIPLIERS, strict=True):
        z = tf.bitwise.bitwise_xor(z, _shift(z, shift)) * multiplier
    return tf.bitwise.bitwise_xor(z, _shift(z, 31))


def _shift(z: tf.Tensor, by: int) -> tf.Tensor:
    """To the right, with zeros coming in, where the sign would."""
    return tf.bitwise.bitwise_and(tf.bitwise.right_shift(z, tf.constant(by, tf.int64)), (1 << (64 - by)) - 1)
