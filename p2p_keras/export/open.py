"""Opens whatever can translate: a run, or anything exported from one; all of them behind the same functions."""

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from p2p_keras.config import TrainConfig, input_names, target_kind
from p2p_keras.errors import UserError
from p2p_keras.export import publication, signatures, write
from p2p_keras.sizes import Size
from p2p_keras.system.files import checksum, read_json
from p2p_keras.system.sealed import unseal
from p2p_keras.workdir.folder import settings_from
from p2p_keras.workdir.generator import build_generator

_OF_SERVERS = "assets.extra/"  # what begins so is for TF Serving alone, and may be left out
Function = Callable[[Sequence[np.ndarray], np.ndarray | None], np.ndarray]


class Model(NamedTuple):
    """What translates. Both functions take the images of each input, and int32 seeds (B,) or None, and give images.

    They are uint8 (B, H, W, 3); of other kinds uint8 or uint16 (B, H, W, depth) as `codec.from_unit_range` gives them.
    """

    translate: Function  # at the scale trained at
    tiled: Function  # in the images' own resolution
    config: TrainConfig  # of the run that it comes from
    noise: bool  # whether it takes seeds

    def function(self, tile: bool, images: Sequence[np.ndarray]) -> Function:
        """`tiled` or `translate`. Images of just the size trained on are one tile, as in evaluation."""
        own = images[0].shape[1:3]
        return self.tiled if tile and own != self.contract.image_size else self.translate

    @property
    def contract(self) -> signatures.Contract:
        """What it was trained on."""
        return signatures.contract_of(self.config)


def open_model(path: Path, which: str = "latest", report: Callable[[str], None] = print) -> Model:
    """Loads a run, or an export: the folder of its versions (the newest is taken), a version, a `.keras`, a `.tflite`.

    Args:
        path: Where it is.
        which: `latest`, `best` or a step, of a run.
        report: Called with one line for each checkpoint that was skipped.

    Raises:
        UserError: There is nothing of the kind, or it cannot be read.
    """
    if (path / "config.json").is_file():
        trained = write.load_trained(path, which, report=report)
        return _of_generate(write.as_generate(write.compact_generator(trained)), trained.config, trained.config.dropout)
    file = find_export(path)
    if file is None:
        raise UserError(
            "--model is the folder of a run or of an export, or a .keras or .tflite file that p2p-export wrote. "
            f"{path} is none of them. For one: --model=runs/a2s"
        )
    config = read_metadata(metadata_of(file))
    check_files(file)
    if file.is_dir():
        return _load_saved_model(file, config)
    if file.suffix == ".keras":
        return _load_keras(file, config)
    return _load_tflite(file, config)


def check_export(path: Path, trained: write.Trained, exact: bool = True) -> float:
    """Reloads an export and translates a drawn image with it and with the trainer's own network.

    Args:
        path: A SavedModel's folder, or a `.keras` or `.tflite` file, with its `metadata.json` beside.
        trained: What it was written from.
        exact: Whether float32 was kept, so that rounding alone may tell them apart.

    Returns:
        By how many of 255 levels they differ at most, 16 bits in fractions of those; of label maps how many pixels in
        100 have another class.

    Raises:
        UserError: It is to be exact, but they differ by more than a level or a pixel in 100.
    """
    model = open_model(path)
    size, theirs, rng = model.contract.image_size, model.contract.target_kind, np.random.default_rng(0)
    image = [
        rng.integers(0, (ours.channels - 1 if ours.labels else ours.levels) + 1, (1, *size, ours.depth)).astype(
            ours.dtype
        )
        for ours in model.contract.input_kinds
    ]
    seed = np.ones(1, np.int32) if model.noise else None
    expected = _of_generate(write.as_generate(trained.generator), trained.config, noise=True).translate(image, seed)
    found = model.translate(image, seed)
    if theirs.labels:
        difference, unit = 100 * float((found != expected).mean()), "pixels in 100"
    else:
        difference, unit = float(np.abs(found.astype(int) - expected).max()) * 255 / theirs.levels, "levels"
    if exact and difference > 1:
        raise UserError(
            f"An export must give the trainer's images. This one is up to {difference:.3g} {unit} off, so it was not "
            "published. That is a fault of p2p_keras or of TensorFlow: please report it with the versions in "
            f"{trained.workdir / 'config.json'}."
        )
    return difference


def _of_generate(generate: signatures.Generate, config: TrainConfig, noise: bool) -> Model:
    """A model of `signatures`' functions, as graphs."""
    contract = signatures.contract_of(config)

    images = tuple(tf.TensorSpec((None, None, None, kind.depth), kind.dtype) for kind in contract.input_kinds)

    def as_numpy(function: Callable) -> Function:
        plain = tf.function(lambda images: function(images, None), input_signature=[images])
        noisy = tf.function(
            lambda images, seed: function(images, signatures.seed_pairs(seed)),
            input_signature=[images, tf.TensorSpec((None,), tf.int32)],
        )
        return lambda images, seed: (plain(tuple(images)) if seed is None else noisy(tuple(images), seed)).numpy()

    functions = signatures.make_functions(generate, contract)
    return Model(as_numpy(functions.translate), as_numpy(functions.tiled), config, noise)


def _load_saved_model(folder: Path, config: TrainConfig) -> Model:
    loaded = tf.saved_model.load(str(folder))
    endpoints = loaded.signatures
    noise, names = "seed" in endpoints["translate"].structured_input_signature[1], input_names(config)

    def as_numpy(name: str) -> Function:
        def call(images: Sequence[np.ndarray], seed: np.ndarray | None) -> np.ndarray:
            count = len(images[0])
            seeds = {"seed": tf.constant(np.zeros(count, np.int32) if seed is None else seed)} if noise else {}
            named = {name: tf.constant(image) for name, image in zip(names, images, strict=True)}
            return endpoints[name](**named, **seeds)["image"].numpy()

        return call

    model = Model(as_numpy("translate"), as_numpy("tiled"), config, noise)
    if "crops" in read_json(metadata_of(folder))["config"]:
        return model

    def generate(image: tf.Tensor, seed: tf.Tensor | None) -> tf.Tensor:
        seeds = {"seed": tf.zeros(tf.shape(image)[:1], tf.int32) if seed is None else seed[:, 1]} if noise else {}
        return loaded.signatures["translate_float"](image=image, **seeds)["image"]  # a graph needs `loaded` kept

    # Written before that setting: it keeps images of other sizes than the network's in their own resolution.
    return model._replace(translate=_of_generate(generate, config, noise).translate)


def _load_keras(file: Path, config: TrainConfig) -> Model:
    generator = keras_generator(file, config)
    return _of_generate(lambda image, seed: generator(image, training=False), config, noise=False)


def _load_tflite(file: Path, config: TrainConfig) -> Model:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of tf.lite moving to a package of its own
        interpreter = tf.lite.Interpreter(model_path=str(file), num_threads=os.cpu_count())
    runner = interpreter.get_signature_runner()

    def one_by_one(images: np.ndarray) -> np.ndarray:
        return np.concatenate([runner(image=image[None])["image"] for image in images])

    def generate(image: tf.Tensor, seed: None) -> tf.Tensor:
        shape = (None, *config.image_size, target_kind(config).channels)
        return tf.ensure_shape(tf.numpy_function(one_by_one, [image], tf.float32), shape)

    model = _of_generate(generate, config, noise=False)

    def translate(images: Sequence[np.ndarray], seed: None) -> np.ndarray:
        own = Size(*images[0].shape[1:3])
        if config.crops == "native" and own != config.image_size:
            raise UserError(f"A TFLite file takes images of {config.image_size}. Received {own}. Add --tile.")
        return model.translate(images, seed)

    return model._replace(translate=translate)


def keras_generator(file: Path, config: TrainConfig) -> keras.Model:
    """The network of a `.keras` file, rebuilt; the weights alone are read, nothing that a foreign file says is run."""
    generator = write.plain_generator(write.Trained(build_generator(config, any_size=True), config, 0, file.parent))
    generator.load_weights(file)
    return generator


def find_export(path: Path) -> Path | None:
    """What a path stands for: the folder of a SavedModel, or a file; of a folder of versions, the newest.

    Returns:
        None if it is no export.
    """
    if path.is_dir() and publication.list_versions(path):
        path = path / str(publication.list_versions(path)[-1])
    if not path.is_dir():
        return path if path.exists() else None
    if (path / "saved_model.pb").is_file():
        return path
    return next((path / name for name in ("model.keras", "model_float32.tflite") if (path / name).is_file()), None)


def metadata_of(file: Path) -> Path:
    """Where an export says what it was trained on; `file` is from `find_export`."""
    return (file if file.is_dir() else file.parent) / publication.METADATA


def check_files(file: Path) -> None:
    """Compares an export with the checksums that were taken when it was written, for as far as it is opened.

    Exports of earlier versions have none.

    Args:
        file: From `find_export`, with a `metadata.json` that `read_metadata` can read.

    Raises:
        UserError: A file is not as it was written, or has gone.
    """
    about = metadata_of(file)
    sums = read_json(about).get("sha256", {})
    if not isinstance(sums, dict):
        raise _damaged(about, "does not say which files it has")
    for name, expected in sums.items():
        path = about.parent / name
        if path == about or (path != file and (file not in path.parents or name.startswith(_OF_SERVERS))):
            continue
        if not path.is_file():
            raise _damaged(path, "has gone")
        if checksum(path) != expected:
            raise _damaged(path, f"is not as it was written, by its sha256 in {about.name}")


def _damaged(path: Path, problem: str) -> UserError:
    return UserError(f"An export is opened as p2p-export wrote it. {path} {problem}. Copy it again, or write it anew.")


def read_metadata(path: Path) -> TrainConfig:
    """The settings of the run that was exported.

    Raises:
        UserError: They cannot be read.
    """
    try:
        about = unseal(read_json(path))
        if about is None:
            raise ValueError("it is not as it was written, by its checksum")
        return settings_from(about)
    except (OSError, ValueError) as error:
        raise UserError(
            f"An export has a {path.name} beside it, which says what it was trained on. {path} cannot be read: {error}."
        ) from error
