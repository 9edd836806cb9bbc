"""The losses of pix2pix (Isola et al. 2017, equations 1 to 4). float32 scalars, means over all given elements."""

import tensorflow as tf


def generator_loss(
    generated_logits: tf.Tensor, generated_image: tf.Tensor, target_image: tf.Tensor, lambda_l1: float, kind: str = "bce"
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Adversarial loss plus weighted L1.

    As in the original code, the generator maximises log D(x, G(x)) rather than minimising log(1 - D(x, G(x))).

    Args:
        generated_logits: The discriminator's answer to the generated image, (B, h, w, 1).
        generated_image: (B, S, S, C) in [-1, 1].
        target_image: The same shape and range.
        lambda_l1: Weight of the L1 loss, 100 in the paper.

    Returns:
        generator_loss = gan_loss + lambda_l1 * l1_loss, then gan_loss (ln 2 = 0.693 when the discriminator cannot
        tell), then l1_loss (in [0, 2]).
    """
    logits = tf.cast(generated_logits, tf.float32)
    gan_loss = {
        "bce": lambda: _cross_entropy(generated_logits, 1.0),
        "lsgan": lambda: tf.reduce_mean(tf.square(logits - 1.0)),
        "hinge": lambda: -tf.reduce_mean(logits),
    }[kind]()
    l1_loss = tf.reduce_mean(tf.abs(tf.cast(target_image, tf.float32) - tf.cast(generated_image, tf.float32)))
    return gan_loss + lambda_l1 * l1_loss, gan_loss, l1_loss


def discriminator_loss(real_logits: tf.Tensor, generated_logits: tf.Tensor, kind: str = "bce") -> tf.Tensor:
    """Average of the cross-entropies of real against 1 and generated against 0; ln 2 when it cannot tell.

    The average, where GANs usually take the sum, slows the discriminator by half (paper, section 3.3).
    """
    real, generated = tf.cast(real_logits, tf.float32), tf.cast(generated_logits, tf.float32)
    if kind == "lsgan":
        return 0.5 * (tf.reduce_mean(tf.square(real - 1.0)) + tf.reduce_mean(tf.square(generated)))
    if kind == "hinge":
        return 0.5 * (tf.reduce_mean(tf.nn.relu(1.0 - real)) + tf.reduce_mean(tf.nn.relu(1.0 + generated)))
    return 0.5 * (_cross_entropy(real_logits, 1.0) + _cross_entropy(generated_logits, 0.0))


def _cross_entropy(logits: tf.Tensor, label: float) -> tf.Tensor:
    logits = tf.cast(logits, tf.float32)
    return tf.reduce_mean(
        tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.fill(tf.shape(logits), label), logits=logits)
    )
