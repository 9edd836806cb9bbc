import keras
import numpy as np
import pytest
import tensorflow as tf

from p2p_keras import models
from p2p_keras.layers.batch_norm import BatchNorm
from p2p_keras.layers.noise import NoiseDropout, split_mix
from p2p_keras.rules import patch_size


def _images(count, size, seed=0):
    return tf.constant(np.random.RandomState(seed).uniform(-1, 1, (count, size, size, 3)), tf.float32)


def _lively_generator(**arguments):
    """Fresh weights are so small that outputs are near 0; four times as large, they behave as after some training."""
    generator = models.build_generator(32, base_filters=8, **arguments)
    for layer in generator.layers:
        if hasattr(layer, "kernel"):
            layer.kernel.assign(4 * layer.kernel)
    return generator


def test_parameter_counts_are_those_of_the_original_at_256():
    # 54.414 M and 2.769 M are what the PyTorch version prints for unet_256 with batch norm and its basic discriminator.
    # Our generator has two more biases, of the first and the innermost layer, which no norm follows: 64 + 512.
    generator = models.build_generator(256)
    discriminator = models.build_discriminator("patch70", 256)
    count = lambda model: sum(int(np.prod(v.shape)) for v in model.trainable_variables)  # noqa: E731
    assert count(generator) == 54_414_531
    assert count(discriminator) == 2_768_705


def test_with_resizing_nothing_but_the_decoders_kernels_is_another():
    paper, other = (models.build_generator(64, base_filters=8, upsampling=how) for how in ("transposed", "resize"))
    for one, two in zip(paper.weights, other.weights, strict=True):
        assert one.path == two.path
        doubles = one.path.startswith(("up", "output")) and one.path.endswith("/kernel")
        assert (one.shape[:2], two.shape[:2]) == ((4, 4), (3, 3)) if doubles else one.shape == two.shape


def test_channels_follow_the_paper():
    generator = models.build_generator(256)
    down = [generator.get_layer(f"down{i}").filters for i in range(1, 9)]
    up = [generator.get_layer(f"up{i}").filters for i in range(7, 0, -1)]
    assert down == [64, 128, 256, 512, 512, 512, 512, 512]
    assert up == [512, 512, 512, 512, 256, 128, 64]
    # The report's decoder line, CD512-CD1024-CD1024-C1024-C1024-C512-C256-C128, is what enters each up-layer.
    entering = [generator.get_layer(f"up{i}").input.shape[-1] for i in range(7, 0, -1)]
    assert [*entering, generator.get_layer("output").input.shape[-1]] == [512, 1024, 1024, 1024, 1024, 512, 256, 128]
    noisy = [layer.name for layer in generator.layers if isinstance(layer, NoiseDropout)]
    assert noisy == ["up7_noise", "up6_noise", "up5_noise"]


@pytest.mark.parametrize("size", [8, 32, 64])
def test_depth_follows_the_image_size(size):
    generator = models.build_generator(size, base_filters=4)
    assert sum(layer.name.startswith("down") and "norm" not in layer.name for layer in generator.layers) == np.log2(
        size
    )
    assert generator([_images(2, size), None]).shape == (2, size, size, 3)


@pytest.mark.parametrize(("size", "halvings"), [((32, 64), 5), ((96, 32), 5), ((48, 80), 4)])
def test_a_rectangle_is_halved_as_often_as_both_sides_can_be(size, halvings):
    generator = models.build_generator(size, base_filters=4)
    assert generator.get_layer(f"down{halvings}").output.shape[1:3] == tuple(side // 2**halvings for side in size)
    assert generator([tf.zeros((2, *size, 3)), None]).shape == (2, *size, 3)
    logits = models.build_discriminator("patch16", size, base_filters=4)([tf.zeros((2, *size, 3))] * 2)
    assert logits.shape == (2, *(side // 2 - 2 for side in size), 1)


@pytest.mark.parametrize("size", [4, 20, (32, 36)])
def test_a_size_that_does_not_halve_three_times_is_refused(size):
    with pytest.raises(ValueError, match="image_size must be multiples of 8"):
        models.build_generator(size)


@pytest.mark.parametrize(
    ("kind", "size", "field"), [("patch70", 128, 70), ("patch16", 64, 16), ("pixel", 32, 1), ("compact", 128, 46)]
)
def test_receptive_field_by_gradient(kind, size, field):
    """Inference mode, so that batch statistics don't join distant pixels."""
    discriminator = models.build_discriminator(kind, size, base_filters=8)
    images = _images(1, size)
    middle = patch_size(kind, size) // 2
    with tf.GradientTape() as tape:
        tape.watch(images)
        logits = discriminator([images, images], training=False)
        one = logits[0, middle, middle, 0]
    assert logits.shape == (1, patch_size(kind, size), patch_size(kind, size), 1)
    touched = np.abs(tape.gradient(one, images).numpy()[0]).max(axis=-1) > 0
    assert np.flatnonzero(touched.any(axis=1)).size == field
    assert np.flatnonzero(touched.any(axis=0)).size == field


def test_patch286_reaches_286_pixels():
    """Too large for a gradient in a quick test: from its layers, r = r * stride + kernel - stride, last layer first."""
    convs = [
        la for la in models.build_discriminator("patch286", 512, base_filters=2).layers if "Conv2D" in str(type(la))
    ]
    field = 1
    for layer in reversed(convs):
        field = field * layer.strides[0] + layer.kernel_size[0] - layer.strides[0]
    assert field == 286


def test_patch70_gives_30x30_at_256():
    assert models.build_discriminator("patch70", 256, base_filters=2).output_shape == (None, 30, 30, 1)


@pytest.mark.parametrize("kind", ["patch70", "patch16", "pixel", "compact"])
def test_every_variable_gets_a_gradient(kind):
    generator = models.build_generator(32, base_filters=4)
    discriminator = models.build_discriminator(kind, 32, base_filters=4)
    x, seeds = _images(3, 32), tf.constant([[1, 2], [3, 4], [5, 6]])
    with tf.GradientTape(persistent=True) as tape:
        logits = discriminator([x, generator([x, seeds], training=True)], training=True)
        loss = tf.reduce_mean(tf.nn.softplus(-logits))
    for model in (generator, discriminator):
        for variable, gradient in zip(
            model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True
        ):
            assert gradient is not None, variable.path
            # Batch norm takes out the mean over the batch, so a few gradients are tiny; none is exactly nothing.
            assert float(tf.reduce_max(tf.abs(gradient))) > 0, variable.path


def test_the_bottleneck_is_alive_at_batch_1():
    generator = models.build_generator(32, base_filters=4)
    inner = keras.Model(generator.inputs, generator.get_layer("down5").output)
    one, other = (inner([_images(1, 32, seed), None], training=True).numpy() for seed in (0, 1))
    assert one.shape == (1, 1, 1, 32)
    assert np.abs(one).max() > 1e-6
    assert np.abs(one - other).max() > 1e-6
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(generator([_images(1, 32), None], training=True) ** 2)
    kernel = generator.get_layer("down5").kernel
    assert float(tf.reduce_max(tf.abs(tape.gradient(loss, kernel.value)))) > 0


def test_the_skip_connections_carry_what_the_bottleneck_cannot():
    """Two inputs that differ in one pixel give outputs that differ most at that pixel."""
    generator = models.build_generator(32, base_filters=8)
    image = _images(1, 32).numpy()
    changed = image.copy()
    changed[0, 20, 9] *= -1
    change = np.abs(generator([changed, None]).numpy() - generator([image, None]).numpy())[0].sum(axis=-1)
    y, x = np.unravel_index(change.argmax(), change.shape)
    assert max(abs(y - 20), abs(x - 9)) <= 3  # one 4x4 convolution down and one up


def test_noise_is_a_function_of_each_images_own_seed():
    generator = _lively_generator()
    images = tf.repeat(_images(1, 32), 3, axis=0)
    seeds = tf.constant([[1, 2], [3, 4], [1, 2]])
    once = generator([images, seeds], training=False).numpy()
    np.testing.assert_array_equal(once[0], once[2])
    assert np.abs(once[0] - once[1]).max() > 0.01
    np.testing.assert_array_equal(once, generator([images, seeds], training=False).numpy())
    alone = generator([images[:1], seeds[1:2]], training=False).numpy()
    np.testing.assert_allclose(alone[0], once[1], atol=1e-6)  # convolutions of another batch size sum in another order


def test_without_a_seed_the_generator_is_deterministic():
    generator = _lively_generator()
    image = _images(1, 32)
    np.testing.assert_array_equal(generator([image, None]), generator([image, None]))


def test_noise_dropout_drops_its_rate_and_keeps_the_mean():
    layer = NoiseDropout(0.5, salt=1)
    x = tf.ones((4, 32, 32, 64))
    y = layer(x, tf.constant([[0, i] for i in range(4)])).numpy()
    assert set(np.unique(y)) == {0.0, 2.0}
    # 262,144 draws: the standard deviation of the mean is 2 * sqrt(.25 / 262144) = 0.002; five of them.
    assert abs(y.mean() - 1) < 0.01
    other = NoiseDropout(0.5, salt=2)(x, tf.constant([[0, i] for i in range(4)])).numpy()
    assert 0.45 < (y == other).mean() < 0.55  # layers with another salt draw independently
    assert layer(x) is x


def test_the_noise_of_an_image_depends_on_its_own_seed_alone():
    layer, x = NoiseDropout(0.3, salt=1), tf.ones((3, 2, 4, 8))
    together = layer(x, tf.constant([[7, 8], [-5, 2**31 - 1], [7, 8]])).numpy()
    np.testing.assert_array_equal(together[0], together[2])
    np.testing.assert_array_equal(together[1:2], layer(x[:1], tf.constant([[-5, 2**31 - 1]])))
    for near in ([[8, 8]], [[7, 9]], [[8, 7]]):
        assert (together[:1] != layer(x[:1], tf.constant(near)).numpy()).any()


def test_split_mix_gives_the_published_numbers():
    """The first of seed 1234567, as in the test of Rosetta Code's programs and in Java's SplittableRandom."""
    found = split_mix(tf.constant(1234567, tf.int64), tf.range(5, dtype=tf.int64)).numpy().view(np.uint64)
    assert found.tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_per_image_statistics_equal_training_at_batch_1_and_ignore_the_batch():
    generator = _lively_generator(per_image_statistics=True)
    images = _images(3, 32)
    together = generator([images, None], training=False).numpy()
    for i in range(3):
        alone = generator([images[i : i + 1], None], training=False).numpy()
        np.testing.assert_allclose(alone[0], together[i], atol=1e-6)  # summation order
        as_trained = generator([images[i : i + 1], None], training=True).numpy()
        np.testing.assert_allclose(as_trained[0], together[i], atol=1e-5)  # variance as E[x^2] - E[x]^2 there
    fresh = _lively_generator(per_image_statistics=True)
    state = [variable.numpy() for variable in fresh.non_trainable_variables]
    fresh([images, None], training=False)
    for x, y in zip(state, fresh.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(x, y.numpy())


def test_moving_statistics_make_the_result_independent_of_the_batch():
    generator = _lively_generator()
    generator([_images(4, 32, 9), None], training=True)
    images = _images(3, 32)
    together = generator([images, None], training=False).numpy()
    for i in range(3):
        alone = generator([images[i : i + 1], None], training=False).numpy()
        np.testing.assert_allclose(alone[0], together[i], atol=1e-6)


def test_initial_weights_are_those_of_the_paper():
    keras.utils.set_random_seed(0)
    generator = models.build_generator(64, base_filters=32)
    kernel = generator.get_layer("down5").kernel.numpy()
    assert abs(kernel.std() - 0.02) < 0.0002  # 1,048,576 draws
    gamma = np.concatenate([la.gamma.numpy() for la in generator.layers if isinstance(la, BatchNorm)])
    assert abs(gamma.mean() - 1) < 0.003
    assert abs(gamma.std() - 0.02) < 0.003
    norm = generator.get_layer("down2_norm")
    assert (norm.momentum, norm.epsilon) == (0.9, 1e-5)


def test_bfloat16_computes_close_to_float32_and_returns_float32():
    keras.utils.set_random_seed(1)
    exact = _lively_generator()
    rough = models.build_generator(32, base_filters=8, dtype="mixed_bfloat16")
    rough.set_weights(exact.get_weights())
    image = _images(2, 32)
    result = rough([image, None])
    assert result.dtype == tf.float32
    assert rough.get_layer("down2").compute_dtype == "bfloat16"
    assert rough.get_layer("down2").kernel.dtype == "float32"
    # bfloat16 has 8 bits: 0.4 % a rounding, over ten layers.
    np.testing.assert_allclose(result, exact([image, None]), atol=0.03)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_compact_weights_give_the_same_results(dtype):
    keras.utils.set_random_seed(1)
    exact = _lively_generator()
    trained, compact = (
        models.build_generator(32, base_filters=8, dtype=dtype, compact_weights=c) for c in (False, True)
    )
    for generator in (trained, compact):
        generator.set_weights(exact.get_weights())
    image, seed = _images(2, 32), tf.constant([[1, 2], [3, 4]])
    for noise in (None, seed):
        np.testing.assert_array_equal(trained([image, noise]), compact([image, noise]))
    stored = {layer.name: layer.kernel.dtype for layer in compact.layers if hasattr(layer, "kernel")}
    assert set(stored.values()) == {"float32" if dtype == "float32" else "bfloat16"}
    assert compact.get_layer("down2_norm").moving_mean.dtype == "float32"
    assert [v.path for v in trained.weights] == [v.path for v in compact.weights]


def test_gradients_in_bfloat16_are_close_to_float32s():
    """Each rounding is off by up to 0.4 %, and roundings add up over a dozen layers; batch norm amplifies them."""
    image, target = _images(1, 16), _images(1, 16, seed=1)
    image, target = (tf.repeat(tf.repeat(x, 8, axis=1), 8, axis=2) for x in (image, target))  # 128x128
    gradients = []
    for dtype in ("float32", "mixed_bfloat16"):
        keras.utils.set_random_seed(1)
        generator = models.build_generator(128, base_filters=8, dtype=dtype)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.abs(generator([image, None], training=True) - target))
        gradients.append(tape.gradient(loss, generator.trainable_variables))
    for variable, exact, rough in zip(generator.trainable_variables, *gradients, strict=True):
        off = np.linalg.norm(rough - exact) / np.linalg.norm(exact)
        assert off < 0.5, variable.path


def test_inference_is_without_noise_by_the_moving_statistics_and_takes_any_batch():
    generator = models.build_generator(32, base_filters=4)
    generate = models.make_inference(generator)
    for batch in (1, 3):
        image = tf.random.stateless_uniform((batch, 32, 32, 3), (1, 2), -1, 1)
        # The same operations, once as a graph: fused multiplications round differently.
        np.testing.assert_allclose(generate(image), generator([image, None], training=False), atol=1e-5)


def test_a_generator_of_any_size_has_the_same_weights_and_results():
    fixed, free = models.build_generator(32, base_filters=4), models.build_generator(32, base_filters=4, any_size=True)
    free.set_weights(fixed.get_weights())
    image = tf.random.stateless_uniform((2, 32, 32, 3), (1, 2), -1, 1)
    np.testing.assert_array_equal(fixed([image, None], training=False), free([image, None], training=False))
    wide = tf.random.stateless_uniform((1, 64, 96, 3), (1, 2), -1, 1)
    assert free([wide, None], training=False).shape == (1, 64, 96, 3)
