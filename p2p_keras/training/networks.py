"""What a run trains, built from its settings: both networks, both optimizers, and the checkpoint that holds them."""

from typing import NamedTuple

import keras
import tensorflow as tf

from p2p_keras import models
from p2p_keras.config import TrainConfig, input_kinds, target_kind
from p2p_keras.layers.adam import Adam
from p2p_keras.training.step import LOSS_NAMES, LinearDecay
from p2p_keras.workdir.generator import build_generator, dtype_policy


class Networks(NamedTuple):
    """What is trained, and the checkpoint that holds all of it."""

    generator: keras.Model
    discriminator: keras.Model
    generator_optimizer: keras.optimizers.Optimizer
    discriminator_optimizer: keras.optimizers.Optimizer
    step: tf.Variable  # int64: steps done
    loss_sums: tf.Variable  # float64 (4,): of the epoch so far, so that a resumed epoch reports the same means
    checkpoint: tf.train.Checkpoint
    average: keras.Model | None = None  # the moving average of the generator; None without `ema_decay`

    @property
    def inference(self) -> keras.Model:
        """The generator that everything but training takes: the average, if there is one."""
        return self.average or self.generator

    @property
    def trained(self) -> tuple:
        """Generator, discriminator and the optimizer of each, as `step.make_train_steps` takes them."""
        return self[:4]

    def variables(self) -> list[tf.Variable]:
        """All that a checkpoint holds, in an order that follows from the settings alone."""
        parts = (self.generator, self.discriminator, self.generator_optimizer, self.discriminator_optimizer)
        parts += (self.average,) if self.average else ()
        return [variable.value for part in parts for variable in part.variables] + [self.step, self.loss_sums]


def build_networks(config: TrainConfig, strategy: tf.distribute.Strategy, last_step: int, decaying: int) -> Networks:
    """Builds models, optimizers and checkpoint in the strategy's scope, with weights drawn from the run's seed."""
    keras.utils.set_random_seed(config.seed)
    with strategy.scope():
        generator = build_generator(config)
        discriminator = models.build_discriminator(
            config.discriminator,
            config.image_size,
            sum(kind.channels for kind in input_kinds(config)),
            target_kind(config).channels,
            config.base_filters,
            dtype_policy(config),
            config.discriminator_norm,
        )
        average = build_generator(config) if config.ema_decay else None
        rate = LinearDecay(config.learning_rate, last_step, decaying) if decaying else config.learning_rate
        generator_optimizer = Adam(rate, beta_1=config.beta1)
        discriminator_optimizer = Adam(rate, beta_1=config.beta1)
        generator_optimizer.build(generator.trainable_variables)
        discriminator_optimizer.build(discriminator.trainable_variables)
        step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        loss_sums = tf.Variable(tf.zeros(len(LOSS_NAMES), tf.float64), trainable=False, name="loss_sums")
    parts = (generator, discriminator, generator_optimizer, discriminator_optimizer, step, loss_sums)
    saved = dict(zip(Networks._fields, parts, strict=False))
    if average:
        average.set_weights(generator.get_weights())
        saved["average"] = average
    return Networks(*parts, tf.train.Checkpoint(**saved), average)
