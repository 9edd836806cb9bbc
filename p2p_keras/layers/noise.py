"""Dropout whose noise is a function of a seed given for each image."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("p2p_keras")
class NoiseDropout(keras.layers.Layer):
    """Dropout whose noise is a function of a seed given for each image; without seeds it passes its input on.

    Keras' own Dropout draws the same mask on every replica and keeps its state outside checkpoints.

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
        shape = tf.shape(x)[1:]

        def uniform(image_seed: tf.Tensor) -> tf.Tensor:
            return tf.random.stateless_uniform(shape, tf.random.fold_in(image_seed, self.salt))

        # Image by image, so that the noise of one does not depend on its place in the batch. As fast as one large draw.
        noise = tf.map_fn(uniform, seed, fn_output_signature=tf.float32)
        return tf.where(noise >= self.rate, x / (1.0 - self.rate), tf.zeros((), x.dtype))

    def compute_output_shape(self, x_shape, seed_shape=None):
        """The shape of the input."""
        return x_shape

    def get_config(self) -> dict:
        """Adds the arguments of this class to the base's."""
        return {**super().get_config(), "rate": self.rate, "salt": self.salt}
