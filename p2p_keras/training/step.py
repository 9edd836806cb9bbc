"""One training step: an update of both networks from one batch. Gets built models; knows no files, flags or data."""

from collections.abc import Callable

import keras
import tensorflow as tf

from p2p_keras import losses

LOSS_NAMES = ("generator_loss", "gan_loss", "l1_loss", "discriminator_loss")


def make_train_steps(
    strategy: tf.distribute.Strategy,
    generator: keras.Model,
    discriminator: keras.Model,
    generator_optimizer: keras.optimizers.Optimizer,
    discriminator_optimizer: keras.optimizers.Optimizer,
    lambda_l1: float,
    step: tf.Variable,
    jit_compile: bool = False,
    accumulate: int = 1,
    average: keras.Model | None = None,
    ema_decay: float = 0.0,
    augment: Callable[..., tuple[tf.Tensor, tf.Tensor, tf.Tensor]] | None = None,
    dropout: bool = True,
) -> Callable[[tf.data.Iterator, tf.Tensor], tf.Tensor]:
    """Returns `train_steps(iterator, count)`, a `tf.function` that takes `count` steps and returns their losses.

    Both updates of a step start from the same weights, so the discriminator is applied to the generated image once; the
    original updates the discriminator first and applies it again.

    Args:
        strategy: Models, optimizers and `step` were made in its scope.
        generator: From `models.build_generator`.
        discriminator: From `models.build_discriminator`.
        generator_optimizer: Built for the generator's trainable variables: within a strategy that cannot wait for the
            first step.
        discriminator_optimizer: Likewise.
        lambda_l1: Weight of the L1 loss.
        step: int64 scalar, counted up by one a step.
        jit_compile: Have XLA compile the computation of the gradients; on one replica alone.
        accumulate: Parts of a batch that are computed one after the other, in the memory of one; it divides a replica's
            share. Batch norm is over a part, its moving averages are updated by each; the update is by the mean of the
            parts' gradients.
        average: A generator of the same form, whose weights become the moving average of the trained one's: after step
            t each is d times itself plus 1 - d times the new weight, d = min(ema_decay, (1 + t) / (10 + t)), so that
            the weights drawn at the start soon count for nothing (as `tf.train.ExponentialMovingAverage` with
            `num_updates`). That of batch norm's moving averages is taken likewise.
        ema_decay: See there.
        augment: A function of (noise_seed, input_image, target_image, generated_image) to what the discriminator is
            shown of the three images instead. The L1 loss is of the images themselves.
        dropout: Whether the generator draws its noise.

    Returns:
        A function of a (distributed) iterator over (input_image, target_image, noise_seed) and an int32 scalar; its
        result is float32 (count, 4), in the order of `LOSS_NAMES`, means over the global batch.
    """
    replicas = strategy.num_replicas_in_sync

    def compute_gradients(input_image: tf.Tensor, target_image: tf.Tensor, noise_seed: tf.Tensor) -> tuple:
        with tf.GradientTape(persistent=True) as tape:
            generated_image = generator([input_image, noise_seed if dropout else None], training=True)
            seen_input, seen_target, seen_generated = input_image, target_image, generated_image
            if augment:
                seen_input, seen_target, seen_generated = augment(
                    noise_seed, input_image, target_image, generated_image
                )
            real_logits = discriminator([seen_input, seen_target], training=True)
            generated_logits = discriminator([seen_input, seen_generated], training=True)
            generator_loss, gan_loss, l1_loss = losses.generator_loss(
                generated_logits, generated_image, target_image, lambda_l1
            )
            discriminator_loss = losses.discriminator_loss(real_logits, generated_logits)
            # Losses are means over a part of this replica's share of the batch. The parts' gradients are added up below
            # and the replicas' by the optimizers: dividing by both numbers gives the gradient of the batch's mean.
            parts = replicas * accumulate
            generator_share, discriminator_share = generator_loss / parts, discriminator_loss / parts
        generator_gradients = tape.gradient(generator_share, generator.trainable_variables)
        discriminator_gradients = tape.gradient(discriminator_share, discriminator.trainable_variables)
        values = (generator_loss, gan_loss, l1_loss, discriminator_loss)
        return generator_gradients, discriminator_gradients, dict(zip(LOSS_NAMES, values, strict=True))

    if jit_compile:
        compute_gradients = tf.function(compute_gradients, jit_compile=True, autograph=False)

    def train_step(input_image: tf.Tensor, target_image: tf.Tensor, noise_seed: tf.Tensor) -> dict[str, tf.Tensor]:
        batch = (input_image, target_image, noise_seed)
        sums = compute_gradients(*(tensor[::accumulate] for tensor in batch))
        for i in range(1, accumulate):  # every so-many-th image: over all replicas, the same parts as on one
            with tf.control_dependencies(tf.nest.flatten(sums)):  # not at once, which would take the memory of all
                computed = compute_gradients(*(tensor[i::accumulate] for tensor in batch))
                sums = tf.nest.map_structure(tf.add, sums, computed)
        generator_gradients, discriminator_gradients, values = sums
        generator_optimizer.apply(generator_gradients, generator.trainable_variables)
        discriminator_optimizer.apply(discriminator_gradients, discriminator.trainable_variables)
        return {name: value / accumulate for name, value in values.items()}

    def update_average() -> None:
        done = tf.cast(step, tf.float32)
        share = 1.0 - tf.minimum(ema_decay, (1.0 + done) / (10.0 + done))
        for mean, weight in zip(average.variables, generator.variables, strict=True):
            strategy.extended.update(  # once on each device that holds a copy
                mean.value, lambda mean, weight: mean.assign_sub(share * (mean - weight)), args=(weight.value,)
            )

    @tf.function(autograph=False)  # AutoGraph of TensorFlow 2.21 does not convert loops under Python 3.13
    def train_steps(iterator: tf.data.Iterator, count: tf.Tensor) -> tf.Tensor:
        def take_one(i: tf.Tensor, taken: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            per_replica = strategy.run(train_step, args=iterator.get_next())
            means = [strategy.reduce("MEAN", per_replica[name], axis=None) for name in LOSS_NAMES]
            step.assign_add(1)
            if average:
                update_average()
            return i + 1, taken.write(i, tf.stack(means))

        losses_of_steps = tf.TensorArray(tf.float32, size=count, element_shape=(len(LOSS_NAMES),))
        # One after the other: a step begins with the weights that the one before it left.
        _, taken = tf.while_loop(lambda i, _: i < count, take_one, (0, losses_of_steps), parallel_iterations=1)
        return taken.stack()

    return train_steps


class LinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Constant, then linear to 0 over the last `decay_steps` of `total_steps`; `decay_steps` 0 is constant throughout.

    The schedule of the PyTorch version, by step instead of by epoch.
    """

    def __init__(self, learning_rate: float, total_steps: int, decay_steps: int) -> None:
        self.learning_rate, self.total_steps, self.decay_steps = learning_rate, total_steps, decay_steps

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Learning rate of the update numbered `step` from 0."""
        left = tf.cast(self.total_steps, tf.float32) - tf.cast(step, tf.float32)
        return self.learning_rate * tf.clip_by_value(left / max(self.decay_steps, 1), 0.0, 1.0)

    def get_config(self) -> dict:
        """The arguments."""
        return {
            "learning_rate": self.learning_rate,
            "total_steps": self.total_steps,
            "decay_steps": self.decay_steps,
        }
