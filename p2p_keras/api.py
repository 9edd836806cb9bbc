"""The package from Python: train a run, load a model, translate a picture. What the commands do, without a terminal.

Importing it is quick: TensorFlow is loaded by the first call.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from p2p_keras.errors import UserError
from p2p_keras.images.files import eight_bits
from p2p_keras.presets import make_config
from p2p_keras.pretrained import locate
from p2p_keras.system.urls import refuse_url

Picture = str | os.PathLike | Image.Image | np.ndarray


def train(
    data_dir: str | os.PathLike,
    workdir: str | os.PathLike,
    preset: str | None = None,
    report: Callable[[str], None] = print,
    **settings: Any,
) -> Path:
    """Trains a run, or continues the one in `workdir`: `p2p-train` as a function.

    Where the program ends soon after, TensorFlow may need up to a minute more.

    Args:
        data_dir: A folder of pairs, see docs/data.md; or the URL of one in shards.
        workdir: The run's folder, on a disk.
        preset: One of `PRESETS`.
        report: Called with each line that p2p-train would print.
        **settings: The flags of p2p-train, which are the fields of `TrainConfig`, as `direction="AtoB", epochs=50`.

    Returns:
        `workdir`, for `load`.

    Raises:
        UserError: Settings, data or folder don't allow it; says what to do.
        KeyboardInterrupt: It was stopped by a signal, after a checkpoint. The same call continues it.
    """
    from p2p_keras.system import devices
    from p2p_keras.training.run import train as train_run
    from p2p_keras.workdir.folder import saved_run

    refuse_url("workdir", workdir)
    saved, _ = saved_run(Path(workdir)) or (None, None)
    strategy = devices.make_strategy(report)
    count = strategy.num_replicas_in_sync  # to which a batch size that is not given is raised
    config = make_config(preset, saved, count, data_dir=os.fspath(data_dir), **settings)
    if train_run(config, Path(workdir), strategy, report):
        raise KeyboardInterrupt
    return Path(workdir)


class Translator:
    """A loaded model. Calling it translates a picture.

    Attributes:
        config: The settings that it was trained with, a `TrainConfig`.
        inputs: Names of the pictures that a call takes: `("image",)`, or the run's `input_panels`.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self.config = model.config
        self.inputs: tuple[str, ...] = model.contract.input_names

    def __call__(self, *pictures: Picture, seed: int | None = None, tile: bool | None = None) -> np.ndarray:
        """Translates a picture, or a batch of equal size.

        Args:
            *pictures: One for each of `inputs`: a path, a `PIL.Image`, or an array (H, W, C) or (B, H, W, C) as files
                hold it: uint8, or uint16 for a model of 16 bits; of grey and label maps (H, W) will do. A path is
                turned upright by its EXIF orientation.
            seed: Draws dropout noise; None is without.
            tile: Whether to work in overlapping tiles, in the picture's own resolution. None: as the model was trained.

        Returns:
            The generated picture in its own size: uint8 or uint16 (H, W, C), a label map's classes (H, W, 1); of a
            batch (B, H, W, C).

        Raises:
            UserError: A picture cannot be read, or is not of the kind that the model takes.
        """
        kinds = self._model.contract.input_kinds
        if len(pictures) != len(kinds):
            raise UserError(f"This model takes {', '.join(self.inputs)}. Received {len(pictures)} pictures.")
        if seed is not None and not self._model.noise:
            raise UserError("A seed needs a model with noise: a run with --dropout, or its export with --noise.")
        if seed is not None and not -(2**31) <= seed < 2**31:
            raise UserError(f"A seed is a number of 32 bits, from -2**31 to 2**31 - 1. Received: {seed}")
        arrays = [_to_array(picture, kind) for picture, kind in zip(pictures, kinds, strict=True)]
        batched = arrays[0].ndim == 4
        stacks = [array if array.ndim == 4 else array[np.newaxis] for array in arrays]
        if len({stack.shape[:3] for stack in stacks}) > 1:
            raise UserError(f"The inputs must be of one size. Received: {_shapes(arrays)}")
        tiled = self._model.contract.native if tile is None else tile
        run = self._model.function(tiled, stacks)
        seeds = None if seed is None else np.full(len(stacks[0]), seed, np.int32)
        generated = run(stacks, seeds)
        return generated if batched else generated[0]


def load(model: str | os.PathLike, checkpoint: str = "latest", report: Callable[[str], None] = print) -> Translator:
    """Loads a run, or anything that p2p-export wrote: `load("runs/a2s")("photo.jpg")` is the translated picture.

    Args:
        model: A run's folder, an export's, or a `.keras` or `.tflite` file of one; or `town`, which comes with the
            package.
        checkpoint: `latest`, `best` or a step, of a run.
        report: Called with one line for each checkpoint that was skipped.

    Raises:
        UserError: There is nothing of the kind, or it cannot be read.
    """
    from p2p_keras.export.open import open_model

    refuse_url("model", model)
    return Translator(open_model(locate(model), str(checkpoint), report))


def _to_array(picture: Picture, kind: Any) -> np.ndarray:
    """(H, W, depth) or (B, H, W, depth), of the kind's dtype."""
    from p2p_keras.data.picture import ImageError
    from p2p_keras.translate import read_image

    if isinstance(picture, str | os.PathLike):
        try:
            return read_image(Path(picture), kind)
        except ImageError as problem:
            raise UserError(f"A picture must be a readable image. {picture}: {problem}") from problem
    if isinstance(picture, Image.Image):
        modes = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
        plain = kind.bits == 8 and not kind.labels
        picture = np.asarray(eight_bits(picture).convert(modes[kind.channels]) if plain else picture)
    array = np.asarray(picture)
    array = array[..., np.newaxis] if array.ndim == 2 and kind.depth == 1 else array
    if array.dtype != kind.dtype or array.ndim not in (3, 4) or array.shape[-1] != kind.depth or 0 in array.shape:
        raise UserError(
            f"This model takes {kind.dtype} (H, W, {kind.depth}), or a batch of them. "
            f"Received: {array.dtype} {array.shape}"
        )
    if kind.labels and array.max() >= kind.channels:
        raise UserError(f"The highest of {kind.channels} classes is {kind.channels - 1}. Received: {array.max()}")
    return array


def _shapes(arrays: Sequence[np.ndarray]) -> str:
    return ", ".join(str(array.shape) for array in arrays)
