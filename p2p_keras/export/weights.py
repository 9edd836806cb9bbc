"""The weights of an export, for a run that begins with them."""

import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

from p2p_keras.config import TrainConfig
from p2p_keras.errors import UserError
from p2p_keras.export.open import check_files, find_export, keras_generator, metadata_of, read_metadata
from p2p_keras.layers.convolution import from_transposed
from p2p_keras.system.files import read_json


class Weights(NamedTuple):
    """What a run can begin with."""

    config: TrainConfig
    step: int
    values: dict[str, np.ndarray]  # float32, by the path of the variable, as `down2_norm/gamma`


def read_weights(path: Path) -> Weights:
    """Reads the weights of an export, a SavedModel or a `.keras` file. Nothing that the file says is run.

    Moving averages are among them only where the export needs them: with `statistics` `moving`.

    Args:
        path: As for `open_model`.

    Raises:
        UserError: There is no export, it cannot be read, or it is a `.tflite` file.
    """
    file = find_export(path)
    if file is None or not (file.is_dir() or file.suffix == ".keras"):
        raise UserError(
            "--init_from is the folder of a run, of a SavedModel, or a .keras file that p2p-export wrote. "
            f"{path} {_found(file)}. For one: --init_from=runs/a2s"
        )
    config = read_metadata(metadata_of(file))
    check_files(file)
    try:
        step = int(read_json(metadata_of(file))["step"])
        values = _read_variables(file) if file.is_dir() else _read_keras(file, config)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile, tf.errors.OpError) as error:
        problem = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(
            f"--init_from takes a whole export. {file} cannot be read: {problem}. Write it anew."
        ) from error
    return Weights(config, step, {name: value.astype(np.float32) for name, value in values.items()})


def _found(file: Path | None) -> str:
    if file is None:
        return "is none of them"
    if file.suffix == ".tflite":
        return "is TFLite, which keeps no weights to train on: take the run, or another export of it"
    if file.suffix in (".pth", ".pt"):
        return "is PyTorch's: p2p-import makes a run of it"
    return "is none of them"


def _read_variables(folder: Path) -> dict[str, np.ndarray]:
    """Of a SavedModel, from its checkpoint alone; the graph is not loaded."""
    reader = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
    graph = TrackableObjectGraph.FromString(reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH"))
    variables = [attribute for node in graph.nodes for attribute in node.attributes]
    return {variable.full_name: reader.get_tensor(variable.checkpoint_key) for variable in variables}


def _read_keras(file: Path, config: TrainConfig) -> dict[str, np.ndarray]:
    values = {variable.path: variable.numpy() for variable in keras_generator(file, config).weights}
    if config.upsampling == "resize":  # `plain_generator` has changed them
        doubling = [path for path in values if path.startswith(("up", "output")) and path.endswith("/kernel")]
        values |= {path: from_transposed(values[path]) for path in doubling}
    return values
