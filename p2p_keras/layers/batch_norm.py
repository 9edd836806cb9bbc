"""Batch normalisation with the original's constants, in one kernel where Keras' own takes several passes."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("p2p_keras")
class BatchNorm(keras.layers.BatchNormalization):
    """Keras batch normalisation with the original's constants, synchronised over replicas.

    Synchronised, because otherwise every replica would train with statistics of its own share of the batch and the
    moving averages of all but one would be lost. On a single replica TensorFlow's fused kernel computes the same.

    Args:
        per_image_statistics: With `training=False`, normalise each image by its own mean and variance over (H, W)
            instead of the moving averages. It is what the original does at test time with batch 1, without depending on
            the batch.
    """

    def __init__(self, per_image_statistics: bool = False, **kwargs) -> None:
        defaults = {"momentum": 0.9, "epsilon": 1e-5, "synchronized": True}
        defaults["gamma_initializer"] = keras.initializers.RandomNormal(1.0, 0.02)
        super().__init__(**{**defaults, **kwargs})
        self.per_image_statistics = per_image_statistics

    def call(self, inputs, training=None, mask=None):
        """Normalises (B, H, W, C); keeps shape and dtype."""
        if training and self.trainable:
            if tf.distribute.get_strategy().num_replicas_in_sync > 1:
                return super().call(inputs, training=True, mask=mask)
            return self._normalise_batch(inputs)
        gamma, beta = tf.cast(self.gamma, tf.float32), tf.cast(self.beta, tf.float32)
        if not self.per_image_statistics:
            average, variance = tf.cast(self.moving_mean, tf.float32), tf.cast(self.moving_variance, tf.float32)
            return tf.compat.v1.nn.fused_batch_norm(
                inputs, gamma, beta, average, variance, self.epsilon, is_training=False
            )[0]
        x = tf.cast(inputs, tf.float32)
        mean, variance = tf.nn.moments(x, axes=[1, 2], keepdims=True)
        x = tf.nn.batch_normalization(x, mean, variance, beta, gamma, self.epsilon)
        return tf.cast(x, inputs.dtype)

    def _normalise_batch(self, inputs: tf.Tensor) -> tf.Tensor:
        """By the batch's own statistics, float32 whatever the dtype of the inputs; updates the moving averages."""
        normalised, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs, tf.cast(self.gamma, tf.float32), tf.cast(self.beta, tf.float32), epsilon=self.epsilon
        )
        # The kernel returns the variance by N - 1. Keras and the original average the one by N.
        count = tf.cast(tf.size(inputs) // tf.shape(inputs)[-1], tf.float32)
        variance *= tf.maximum(count - 1.0, 1.0) / count
        for average, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            average.assign(average * self.momentum + value * (1.0 - self.momentum))
        return normalised

    def get_config(self) -> dict:
        """Adds the argument of this class to the base's."""
        return {**super().get_config(), "per_image_statistics": self.per_image_statistics}
