"""Writes an imported generator as a run: `config.json` and a checkpoint of the generator alone."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from p2p_keras.config import TrainConfig
from p2p_keras.errors import UserError
from p2p_keras.pytorch.read import Network
from p2p_keras.system.files import checksum, sync_path, sync_tree, write_whole
from p2p_keras.versions import versions
from p2p_keras.workdir import checkpoints
from p2p_keras.workdir.folder import to_json
from p2p_keras.workdir.generator import build_generator, weights_checksum


def write_run(network: Network, config: TrainConfig, output: Path, source: Path) -> None:
    """Writes a run that p2p-eval, p2p-translate and p2p-export take, as of step 0. It appears with one rename.

    Args:
        network: From `read_network`.
        config: What the run says of itself; of the network's form.
        output: The run's folder: new, or empty.
        source: The file that the network came from, for `config.json`: under `imported` it has its `path` and `sha256`,
            what the `network` and the `norm` are called there, and the generator's `weights_checksum`.

    Raises:
        UserError: The folder is there, or cannot be written.
    """
    generator = build_generator(config)
    for name, weights in network.layers.items():
        generator.get_layer(name).set_weights(weights)
    imported = {
        "path": str(source.absolute()),
        "sha256": checksum(source),
        "network": network.name,
        "norm": network.norm,
        "weights": weights_checksum(generator),
    }
    inference = {"statistics": config.statistics, "noise": False}
    with _new_folder(output) as folder:
        checkpoints.save(tf.train.Checkpoint(generator=generator), folder / "checkpoints", 0, keep=0)
        text = to_json(config, inference=inference, imported=imported, versions=versions())
        write_whole(folder / "config.json", text)


@contextlib.contextmanager
def _new_folder(output: Path) -> Iterator[Path]:
    """Gives a hidden folder beside, which gets its name when the block ends, and never if the block fails."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=".part-", dir=output.parent))
        try:
            folder = beside / "run"
            folder.mkdir()
            yield folder
            sync_tree(folder)
            os.rename(folder, output)  # fails if it is there, unless it is empty
            sync_path(output.parent)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise UserError(
            f"--output must be a new folder that can be written. {output}: {error.strerror}. Name another one."
        ) from error
