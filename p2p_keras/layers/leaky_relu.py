"""LeakyReLU whose gradient needs its result alone."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("p2p_keras")
class LeakyReLU(keras.layers.LeakyReLU):
    """Keras' layer of this name, which keeps one map for the gradient where Keras' own keeps two.

    A number and what becomes of it have the same sign, so the gradient can be told from the result. The next layer
    keeps that for its own gradient; the input, which TensorFlow's gradient asks for, nobody else needs.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """The shape and dtype of the input."""
        return _leaky_relu(inputs, self.negative_slope)


def _leaky_relu(inputs: tf.Tensor, slope: float) -> tf.Tensor:
    @tf.custom_gradient
    def compute(inputs: tf.Tensor):
        outputs = tf.nn.leaky_relu(inputs, slope)
        return outputs, lambda upstream: tf.raw_ops.LeakyReluGrad(gradients=upstream, features=outputs, alpha=slope)

    return compute(inputs)
