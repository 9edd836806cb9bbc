import subprocess
import sys

import keras
import numpy as np
import tensorflow as tf

from p2p_keras.layers.adam import Adam


def _train(optimizer_class, strategy, steps=5):
    """Updates of variables of several shapes by gradients that are known; then the variables and all moments."""
    rng = np.random.RandomState(0)
    shapes = [(4, 4, 3, 8), (8,), ()]
    with strategy.scope():
        variables = [keras.Variable(rng.normal(size=shape).astype(np.float32)) for shape in shapes]
        schedule = keras.optimizers.schedules.PolynomialDecay(1e-2, 4, 1e-3)
        optimizer = optimizer_class(schedule, beta_1=0.5)
        optimizer.build(variables)
    gradients = [[rng.normal(size=shape).astype(np.float32) * 10.0**-step for shape in shapes] for step in range(steps)]

    @tf.function(autograph=False)
    def update(*one):
        def on_replica():
            with tf.GradientTape() as tape:  # of a sum of products, whose gradients are the factors
                loss = tf.add_n([tf.reduce_sum(v * g) for v, g in zip(variables, one, strict=True)])
            optimizer.apply(tape.gradient(loss, variables), variables)

        strategy.run(on_replica)

    for one in gradients:
        update(*map(tf.constant, one))
    return [np.array(v) for v in (*variables, *optimizer.variables)]


def test_it_is_keras_adam_but_for_rounding(one_device):
    _assert_equal(one_device)


def test_it_is_keras_adam_on_two_replicas():
    """In a process of its own: on CPUs, a second MirroredStrategy of a process counts its reductions from the start."""
    code = (
        f"import sys; sys.path[:0] = {sys.path}; import conftest; from layers.test_adam import _assert_on_two as f; f()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def _assert_on_two():
    _assert_equal(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))


def _assert_equal(strategy):
    for ours, theirs in zip(_train(Adam, strategy), _train(keras.optimizers.Adam, strategy), strict=True):
        # The kernel computes 1 - 0.999 in float32, which is off by 1.3e-5: so are the second moments, and their roots
        # by half of that. Weights of about 1 are off in their last bit, 1.2e-7.
        np.testing.assert_allclose(ours, theirs, rtol=1.5e-5, atol=1e-6 * np.abs(theirs).max())


def test_its_variables_are_those_of_keras():
    """So a checkpoint of either fits the other."""
    variable = keras.Variable(np.ones((2, 3), np.float32), name="kernel")
    paths = []
    for optimizer in (Adam(1e-3, name="adam"), keras.optimizers.Adam(1e-3, name="adam")):
        optimizer.build([variable])
        paths.append([(v.path, v.shape, v.dtype) for v in optimizer.variables])
    assert paths[0] == paths[1]
