import math

import numpy as np
import tensorflow as tf

from p2p_keras import losses


def test_a_discriminator_that_cannot_tell_costs_ln_2():
    zeros = tf.zeros((2, 30, 30, 1))
    image = tf.zeros((2, 8, 8, 3))
    assert abs(float(losses.discriminator_loss(zeros, zeros)) - math.log(2)) < 1e-6  # float32's last digit
    total, gan, l1 = losses.generator_loss(zeros, image, image, 100.0)
    assert abs(float(gan) - math.log(2)) < 1e-6
    assert float(l1) == 0.0
    assert float(total) == float(gan)


def test_against_the_definitions_in_float64():
    rng = np.random.RandomState(0)
    real, generated = rng.normal(0, 3, (2, 2, 5, 5, 1))
    image, target = rng.uniform(-1, 1, (2, 2, 8, 8, 3))

    def bce(logits, label):
        probability = 1 / (1 + np.exp(-logits))
        return -np.mean(label * np.log(probability) + (1 - label) * np.log(1 - probability))

    total, gan, l1 = losses.generator_loss(*(tf.constant(x, tf.float32) for x in (generated, image, target)), 100.0)
    np.testing.assert_allclose(gan, bce(generated, 1), rtol=1e-5)  # float32 against float64
    np.testing.assert_allclose(l1, np.abs(image - target).mean(), rtol=1e-5)
    np.testing.assert_allclose(total, bce(generated, 1) + 100 * np.abs(image - target).mean(), rtol=1e-5)
    discriminator = losses.discriminator_loss(tf.constant(real, tf.float32), tf.constant(generated, tf.float32))
    np.testing.assert_allclose(discriminator, (bce(real, 1) + bce(generated, 0)) / 2, rtol=1e-5)


def test_extreme_logits_stay_finite():
    huge = tf.fill((1, 2, 2, 1), 1e4)
    assert np.isfinite(losses.discriminator_loss(-huge, huge))
    assert float(losses.discriminator_loss(huge, -huge)) == 0.0
