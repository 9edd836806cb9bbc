import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from p2p_keras import losses, models
from p2p_keras.images.kinds import RGB
from p2p_keras.training.augment import augment_pairs
from p2p_keras.training.step import LOSS_NAMES, LinearDecay, make_train_steps

SIZE = 32


def _batches(count, batch_size):
    rng = np.random.RandomState(0)
    images = rng.uniform(-1, 1, (2, count * batch_size, SIZE, SIZE, 3)).astype(np.float32)
    seeds = rng.randint(0, 2**31, (count * batch_size, 2)).astype(np.int32)
    return tf.data.Dataset.from_tensor_slices((*images, seeds)).batch(batch_size, drop_remainder=True)


def _adam():
    return keras.optimizers.Adam(2e-4, beta_1=0.5)


def _sgd():
    return keras.optimizers.SGD(0.01)


def _train(
    strategy,
    count=3,
    batch_size=4,
    calls=(3,),
    make_optimizer=_adam,
    jit_compile=False,
    accumulate=1,
    batches=None,
    augment=None,
    dropout=True,
):
    keras.utils.set_random_seed(5)
    with strategy.scope():
        generator = models.build_generator(SIZE, base_filters=4)
        discriminator = models.build_discriminator("patch70", SIZE, base_filters=4)
        optimizers = [make_optimizer() for _ in range(2)]
        for optimizer, model in zip(optimizers, (generator, discriminator), strict=True):
            optimizer.build(model.trainable_variables)
        step = tf.Variable(0, dtype=tf.int64)
    weights = [*generator.weights, *discriminator.weights]
    before = {w.path: w.numpy().copy() for w in weights}
    train_steps = make_train_steps(
        strategy,
        generator,
        discriminator,
        *optimizers,
        100.0,
        step,
        jit_compile,
        accumulate,
        augment=augment,
        dropout=dropout,
    )
    iterator = iter(strategy.experimental_distribute_dataset(batches or _batches(count, batch_size)))
    values = np.concatenate([train_steps(iterator, tf.constant(n)).numpy() for n in calls])
    return before, {w.path: w.numpy() for w in weights}, values, int(step.numpy())


@pytest.fixture(scope="module")
def three_steps(one_device):
    """By Adam, in one call."""
    return _train(one_device)


@pytest.mark.parametrize("accumulate", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_two_replicas_equal_one(one_device, two_devices, accumulate):
    """Gradients, batch norm statistics and dropout noise are those of the global batch.

    By SGD, which moves a weight in proportion to its gradient: Adam divides a gradient by its own size, and with it any
    factor that is wrong. Every weight moves by 1e-5 at least, which agrees to a few roundings of a weight near 1 (1e-7)
    and of sums in another order. A mistake in any of the three puts some weight off by its whole move. In two parts,
    too: each has the same images, whatever the number of replicas.
    """
    runs = [_train(strategy, make_optimizer=_sgd, accumulate=accumulate) for strategy in (one_device, two_devices)]
    (before, one, losses_one, _), (_, two, losses_two, _) = runs
    np.testing.assert_allclose(losses_one, losses_two, rtol=1e-5)  # float32 sums in another order
    for name, start in before.items():
        moved = np.abs(one[name] - start).max()
        assert moved > 1e-5, name
        assert np.abs(one[name] - two[name]).max() < 5e-7 + 1e-4 * moved, name


@pytest.mark.slow
def test_compiled_by_xla_it_is_the_same_step(one_device):
    """By SGD, as above; moving averages, too."""
    runs = [_train(one_device, make_optimizer=_sgd, jit_compile=jit) for jit in (False, True)]
    (before, plain, losses_plain, _), (_, compiled, losses_compiled, _) = runs
    np.testing.assert_allclose(losses_plain, losses_compiled, rtol=1e-5)  # float32 sums in another order
    for name, start in before.items():
        moved = np.abs(plain[name] - start).max()
        assert np.abs(plain[name] - compiled[name]).max() < 5e-7 + 1e-4 * moved, name


@pytest.mark.slow
def test_in_parts_the_update_is_by_the_mean_of_their_gradients(one_device):
    """Against the two parts, every second image each, taken as whole steps from the same weights.

    SGD moves a weight by its gradient times the rate, so the mean of the parts' moves is that of their gradients; to
    float32's rounding of a weight. The moving averages, which are no weights of SGD's, are updated by the first part,
    then by the second: m becomes d (d m + a) + b, where a step alone gives d m + a; d is 0.9 in the generator, and 0.81
    in the discriminator, which sees real images and then generated ones.
    """
    (whole,) = _batches(1, 4)
    parts = [tf.data.Dataset.from_tensors(tuple(tensor[i::2] for tensor in whole)) for i in (0, 1)]
    before, found, losses_found, step = _train(one_device, 1, calls=(1,), make_optimizer=_sgd, accumulate=2)
    (_, first, losses_first, _), (_, second, losses_second, _) = (
        _train(one_device, calls=(1,), make_optimizer=_sgd, batches=part) for part in parts
    )
    assert step == 1
    np.testing.assert_allclose(losses_found, (losses_first + losses_second) / 2, rtol=1e-6)
    averages = 0
    for name, start in before.items():
        if "moving" in name:
            decay, averages = 0.9 if name.startswith(("down", "up")) else 0.81, averages + 1
            expected = decay * first[name] + second[name] - decay * start
        else:
            expected = (first[name] + second[name]) / 2
            assert np.abs(first[name] - second[name]).max() > 1e-5, name  # so the parts can be told apart
        np.testing.assert_allclose(found[name], expected, rtol=1e-6, atol=2e-7, err_msg=name)
    assert averages == 2 * (3 + 4 + 3)  # mean and variance: 3 layers down, 4 up, 3 of the discriminator


def test_without_dropout_no_seed_changes_a_step(one_device):
    (images_and_seed,) = _batches(1, 4)
    *images, seed = images_and_seed
    batches = [tf.data.Dataset.from_tensors((*images, each)) for each in (seed, seed + 1)]
    same, with_noise = (
        [_train(one_device, calls=(1,), batches=each, dropout=dropout)[2] for each in batches]
        for dropout in (False, True)
    )
    np.testing.assert_array_equal(same[0], same[1])
    assert np.abs(with_noise[0] - with_noise[1]).max() > 1e-4
    assert np.abs(with_noise[0] - same[0]).max() > 1e-4


def test_what_is_augmented_is_what_the_discriminator_sees_and_no_more(one_device, three_steps):
    """Shown zeros for all three, it cannot tell them apart: real and generated have the same logit, so that the
    discriminator's loss is (log(1 + e^-z) + log(1 + e^z)) / 2 where the GAN loss is log(1 + e^-z). L1 stays.
    """

    def zeros(seed, *images):
        assert seed.shape == (4, 2)
        return tuple(tf.zeros_like(image) for image in images)

    *_, plain, _ = three_steps
    before, after, found, _ = _train(one_device, calls=(1,), augment=zeros)
    _, gan, l1, discriminator = found[0]
    z = -np.log(np.expm1(gan))
    np.testing.assert_allclose(discriminator, (np.log1p(np.exp(-z)) + np.log1p(np.exp(z))) / 2, rtol=1e-5)
    assert abs(plain[0, 3] - discriminator) > 1e-4
    np.testing.assert_allclose(l1, plain[0, 2], rtol=1e-6)
    moved = {name.split("/")[0] for name, start in before.items() if np.abs(after[name] - start).max() > 0}
    assert "up1" in moved  # by the L1 loss


@pytest.mark.slow
@pytest.mark.parametrize("other", ["replicas", "compiled"])
def test_diffaugment_on_two_devices_or_compiled_is_the_same(request, one_device, other):
    """Each pair by its own seed. By SGD and to the roundings of `test_two_replicas_equal_one`."""
    augment = functools.partial(augment_pairs, target_kind=RGB)
    strategy = request.getfixturevalue("two_devices") if other == "replicas" else one_device
    before, one, losses_one, _ = _train(one_device, make_optimizer=_sgd, augment=augment)
    _, two, losses_two, _ = _train(strategy, make_optimizer=_sgd, jit_compile=other == "compiled", augment=augment)
    np.testing.assert_allclose(losses_one, losses_two, rtol=1e-5)
    for name, start in before.items():
        moved = np.abs(one[name] - start).max()
        assert np.abs(one[name] - two[name]).max() < 5e-7 + 1e-4 * moved, name


@pytest.mark.parametrize("replicas", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_average_is_the_recursion_over_the_weights_after_each_step(request, replicas):
    """In float64 from what each step left; decay 0.2 is below the beginning's 3/12 from the second step on."""
    strategy = request.getfixturevalue("one_device" if replicas == 1 else "two_devices")
    keras.utils.set_random_seed(5)
    with strategy.scope():
        generator, average = (models.build_generator(SIZE, base_filters=4) for _ in range(2))
        discriminator = models.build_discriminator("patch70", SIZE, base_filters=4)
        optimizers = [keras.optimizers.Adam(0.01) for _ in range(2)]
        for optimizer, model in zip(optimizers, (generator, discriminator), strict=True):
            optimizer.build(model.trainable_variables)
        step = tf.Variable(0, dtype=tf.int64)
    average.set_weights(generator.get_weights())
    train_steps = make_train_steps(
        strategy, generator, discriminator, *optimizers, 100.0, step, average=average, ema_decay=0.2
    )
    iterator = iter(strategy.experimental_distribute_dataset(_batches(3, 4)))
    expected = [weight.astype(np.float64) for weight in generator.get_weights()]
    for decay in (2 / 11, 0.2, 0.2):
        train_steps(iterator, tf.constant(1))
        pairs = zip(expected, generator.get_weights(), strict=True)
        expected = [decay * mean + (1 - decay) * weight for mean, weight in pairs]
    for variable, mean in zip(average.weights, expected, strict=True):
        np.testing.assert_allclose(variable.numpy(), mean, rtol=1e-5, atol=1e-6, err_msg=variable.path)
        for copy in strategy.experimental_local_results(variable.value):
            np.testing.assert_array_equal(copy, variable.numpy())
    moved = [np.abs(mean - weight).max() for mean, weight in zip(expected, generator.get_weights(), strict=True)]
    assert min(moved) > 1e-4  # so that the weights themselves would fail


def test_all_weights_move_and_the_step_is_counted(three_steps):
    before, after, values, step = three_steps
    assert step == 3
    assert values.shape == (3, len(LOSS_NAMES))
    for name, weights in before.items():
        assert np.abs(weights - after[name]).max() > 0, name


@pytest.mark.slow
def test_how_many_steps_a_call_takes_changes_nothing(one_device, three_steps):
    _, one, values_one, _ = three_steps
    _, two, values_two, _ = _train(one_device, calls=(1, 2))
    np.testing.assert_array_equal(values_one, values_two)
    for name, weights in one.items():
        np.testing.assert_array_equal(weights, two[name], err_msg=name)


def test_a_step_is_adam_on_the_papers_losses(one_device):
    """Against a step written out with two separate tapes and NumPy's Adam."""
    keras.utils.set_random_seed(5)
    generator = models.build_generator(SIZE, base_filters=4)
    discriminator = models.build_discriminator("patch70", SIZE, base_filters=4)
    x, y, seeds = next(iter(_batches(3, 4)))
    with tf.GradientTape() as tape:
        fake = generator([x, seeds], training=True)
        total, gan, l1 = losses.generator_loss(discriminator([x, fake], training=True), fake, y, 100.0)
    generator_gradients = tape.gradient(total, generator.trainable_variables)
    with tf.GradientTape() as tape:
        fake = tf.stop_gradient(generator([x, seeds], training=True))
        loss = losses.discriminator_loss(discriminator([x, y], training=True), discriminator([x, fake], training=True))
    discriminator_gradients = tape.gradient(loss, discriminator.trainable_variables)
    expected = [
        # Adam's first step: m = (1 - b1) g, v = (1 - b2) g^2, both corrected, so g / (|g| + epsilon).
        variable.numpy() - 2e-4 * g.numpy() / (np.abs(g.numpy()) + 1e-7 / np.sqrt(1 - 0.999))
        for model, gradients in ((generator, generator_gradients), (discriminator, discriminator_gradients))
        for variable, g in zip(model.trainable_variables, gradients, strict=True)
    ]

    keras.utils.set_random_seed(5)
    with one_device.scope():
        ours = (
            models.build_generator(SIZE, base_filters=4),
            models.build_discriminator("patch70", SIZE, base_filters=4),
        )
        optimizers = [keras.optimizers.Adam(2e-4, beta_1=0.5) for _ in range(2)]
        for optimizer, model in zip(optimizers, ours, strict=True):
            optimizer.build(model.trainable_variables)
        step = tf.Variable(0, dtype=tf.int64)
    train_steps = make_train_steps(one_device, *ours, *optimizers, 100.0, step)
    values = train_steps(iter(one_device.experimental_distribute_dataset(_batches(3, 4))), tf.constant(1)).numpy()[0]
    np.testing.assert_allclose(values, [total, gan, l1, loss], rtol=1e-5)
    found = [variable.numpy() for model in ours for variable in model.trainable_variables]
    for a, b in zip(expected, found, strict=True):
        # The learning rate times the relative error of a float32 gradient; 1 % of a step where gradients are tiny.
        assert np.quantile(np.abs(a - b), 0.99) < 2e-6


@pytest.mark.parametrize(("step", "rate"), [(0, 1.0), (60, 1.0), (80, 0.5), (99, 0.025), (100, 0.0), (150, 0.0)])
def test_linear_decay(step, rate):
    assert float(LinearDecay(1.0, total_steps=100, decay_steps=40)(tf.constant(step))) == pytest.approx(rate, abs=1e-6)


def test_no_decay_is_constant():
    schedule = LinearDecay(0.5, total_steps=100, decay_steps=0)
    assert [float(schedule(step)) for step in (0, 99)] == [0.5, 0.5]
