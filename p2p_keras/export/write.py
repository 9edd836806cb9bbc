"""The model out of the trainer: a SavedModel for TF Serving, a `.keras` file, TFLite files. See `publication`."""

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import tensorflow as tf

from p2p_keras.config import TrainConfig
from p2p_keras.errors import UserError
from p2p_keras.export import signatures, warmup
from p2p_keras.layers.batch_norm import BatchNorm
from p2p_keras.layers.convolution import Conv2D, Conv2DTranspose, ResizeConv2D, to_transposed
from p2p_keras.layers.leaky_relu import LeakyReLU
from p2p_keras.workdir import checkpoints
from p2p_keras.workdir.folder import read_config
from p2p_keras.workdir.generator import build_generator, restore_each


class Trained(NamedTuple):
    """A run's generator at one checkpoint, for images whose sides are any multiples of the size trained on."""

    generator: keras.Model
    config: TrainConfig  # with the precision it computes in here
    step: int
    workdir: Path


def load_trained(
    workdir: Path, which: str = "latest", precision: str = "", report: Callable[[str], None] = print
) -> Trained:
    """Loads a run's generator.

    Args:
        workdir: The run's folder.
        which: `latest`, `best`, or a step.
        precision: `float32` or `bfloat16`; empty takes the run's.
        report: Called with one line for each checkpoint that was skipped.

    Raises:
        UserError: There is no run, or no such checkpoint.
    """
    config, _ = read_config(workdir / "config.json")
    if which not in ("latest", "best") and not (which.isascii() and which.isdecimal()):
        raise UserError(f"--checkpoint is latest, best or a step. Received: {which}")
    steps = checkpoints.generator_steps(workdir / "checkpoints")
    if which.isdecimal() and steps and int(which) not in steps:
        known = ", ".join(map(str, steps))
        raise UserError(f"--checkpoint is latest, best or a step. Received: {which}. This run has {known}.")
    config = dataclasses.replace(config, precision=precision or config.precision)
    generator = build_generator(config, any_size=True)
    step = next(restore_each(generator, workdir / "checkpoints", which, report))
    return Trained(generator, config, step, workdir)


def write_saved_model(trained: Trained, folder: Path, noise: bool = False) -> None:
    """Writes a SavedModel whose results depend on nothing but its inputs, each image's on that image alone.

    Signatures (B images of equal size in a batch, unless said otherwise; height H and width W are any):
        serving_default: `image_bytes` strings (B,), JPEG or PNG each of any size -> `image_bytes`, PNG of the same
            size, of 8 or 16 bits and as many channels as the targets; and `error` strings (B,), what is wrong with a
            file, whose `image_bytes` are empty then. All others are translated all the same.
        translate: `image` uint8 (B, H, W, 3) -> `image` uint8, the same size.
        translate_float: `image` float32 (B, H, W, 3) in [-1, 1] -> `image` float32.
        tiled: `image` uint8 (B, H, W, 3) -> `image` uint8, in overlapping tiles, in the image's own resolution.

    The first three see images as the run did: whole ones are resized to the size trained on, and the result back to
    theirs; if it was trained on native crops, they stay in their own resolution (`serving_default` in tiles).

    So it is for 8-bit RGB. The number of channels is the run's, `image` of 16 bits is uint16, and of a label map uint8
    (B, H, W, 1) of classes, but in `translate_float` 1 in the channel of the class and -1 in the others. As bytes a
    label map comes and goes as a grey PNG of 8 bits whose numbers are the classes: see `served.decode_file`. A run with
    several input images takes each under its panel's name instead of `image`, as `aerial` and `aerial_bytes`.

    Args:
        trained: What to write.
        folder: Made anew.
        noise: Each signature also takes `seed` int32 (B,), from which an image's dropout noise is drawn.
    """
    contract = signatures.contract_of(trained.config)
    functions = signatures.make_functions(as_generate(compact_generator(trained)), contract)
    named = list(zip(contract.input_names, contract.input_kinds, strict=True))
    files = [tf.TensorSpec((None,), tf.string, f"{name}_bytes") for name, _ in named]  # REST needs that ending
    levels = [tf.TensorSpec((None, None, None, kind.depth), kind.dtype, name) for name, kind in named]
    floats = [tf.TensorSpec((None, None, None, kind.channels), tf.float32, name) for name, kind in named]

    def as_image(function: Callable) -> Callable:
        return lambda images, seed: {"image": function(images, seed)}

    def from_bytes(images: Sequence[tf.Tensor], seed: tf.Tensor | None) -> dict[str, tf.Tensor]:
        image_bytes, error = functions.from_bytes(images, seed)
        return {"image_bytes": image_bytes, "error": error}

    endpoints = {
        "serving_default": (from_bytes, files),
        "translate": (as_image(functions.translate), levels),
        "translate_float": (as_image(functions.translate_float), floats),
        "tiled": (as_image(functions.tiled), levels),
    }
    # A SavedModel of a plain tf.Module does not load in a server's session. Nothing is `track`ed: the archive finds the
    # variables through the signatures, and would write those of a tracked model a second time.
    archive = keras.export.ExportArchive()
    for name, (function, specs) in endpoints.items():
        archive.add_endpoint(name, *_endpoint(function, specs, noise))
    archive.write_out(str(folder), verbose=False)
    warmup.write_requests(folder, contract, noise)


def write_keras(trained: Trained, folder: Path) -> None:
    """Writes `model.keras`, of Keras' own layers alone: `keras.saving` loads it without p2p_keras."""
    folder.mkdir()
    plain_generator(trained).save(folder / "model.keras")


def write_tflite(trained: Trained, folder: Path) -> None:
    """Writes `model_float32.tflite` and `model_int8.tflite` (8-bit weights), for one image of the size trained on.

    Input and output are called `image`, float32 (1, H, W, C) in [-1, 1]; of 8-bit RGB C is 3. Several input images have
    their channels one after the other.
    """
    folder.mkdir()
    model, size = plain_generator(trained), trained.config.image_size
    with tempfile.TemporaryDirectory() as saved:
        archive = keras.export.ExportArchive()
        spec = tf.TensorSpec((1, *size, model.inputs[0].shape[-1]), tf.float32, "image")
        archive.add_endpoint("serve", lambda image: {"image": model(image, training=False)}, [spec])
        archive.write_out(saved, verbose=False)
        for name, optimizations in (("float32", []), ("int8", [tf.lite.Optimize.DEFAULT])):
            converter = tf.lite.TFLiteConverter.from_saved_model(saved, signature_keys=["serving_default"])
            converter.optimizations = optimizations
            (folder / f"model_{name}.tflite").write_bytes(converter.convert())


def as_generate(generator: keras.Model) -> signatures.Generate:
    """The generator by its inference contract, as `signatures` calls it."""
    return lambda image, seed: generator([image, seed], training=False)


def compact_generator(trained: Trained) -> keras.Model:
    """The generator with its convolutions' weights in what they compute in: see `models.build_generator`."""
    if trained.config.precision == "float32":
        return trained.generator
    generator = build_generator(trained.config, any_size=True, compact_weights=True)
    generator.set_weights(trained.generator.get_weights())
    return generator


def plain_generator(trained: Trained) -> keras.Model:
    """The generator without noise, of Keras' own layers: float32 (B, H, W, C) in [-1, 1] -> (B, H, W, K).

    A norm by each image's own statistics is Keras' GroupNormalization with a group for each channel; a `ResizeConv2D`
    is a Conv2DTranspose whose kernel is `convolution.to_transposed`.
    """

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        common = {"name": layer.name, "dtype": layer.dtype_policy}
        if isinstance(layer, ResizeConv2D):
            return keras.layers.Conv2DTranspose.from_config(layer.get_config())
        if not isinstance(layer, BatchNorm):
            own = isinstance(layer, Conv2D | Conv2DTranspose | LeakyReLU)  # each is named after Keras' own
            plain_class = getattr(keras.layers, type(layer).__name__) if own else type(layer)
            return plain_class.from_config(layer.get_config())
        if layer.per_image_statistics:
            return keras.layers.GroupNormalization(groups=-1, epsilon=layer.epsilon, **common)
        return keras.layers.BatchNormalization(epsilon=layer.epsilon, **common)

    def call(layer: keras.layers.Layer, x, *_: object, **__: object):
        return layer(x)  # without the mask, which not every layer takes

    source = build_generator(trained.config, any_size=True, noise=False)
    source.set_weights(trained.generator.get_weights())
    plain = keras.models.clone_model(source, clone_function=clone, call_function=call)
    for layer in plain.layers:
        weights = source.get_layer(layer.name).get_weights()  # gamma, beta, then the moving statistics
        if isinstance(source.get_layer(layer.name), ResizeConv2D):
            weights[0] = to_transposed(weights[0])
        layer.set_weights(weights[: len(layer.get_weights())])
    return plain


def _endpoint(function: Callable, specs: list[tf.TensorSpec], noise: bool) -> tuple[Callable, list[tf.TensorSpec]]:
    """The signature's function, with its seed or without."""
    if not noise:
        return (lambda *images: function(images, None)), specs

    def seeded(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return function(inputs[:-1], signatures.seed_pairs(inputs[-1]))

    return seeded, [*specs, tf.TensorSpec((None,), tf.int32, "seed")]
