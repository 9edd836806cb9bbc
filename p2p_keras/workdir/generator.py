"""The generator that a run's settings describe, under the run's inference contract."""

import hashlib

import keras
import numpy as np

from p2p_keras import models
from p2p_keras.config import TrainConfig, input_kinds, target_kind


def build_generator(
    config: TrainConfig, any_size: bool = False, noise: bool = True, compact_weights: bool = False
) -> keras.Model:
    """Builds the run's generator; `any_size`, `noise` and `compact_weights` as in `models.build_generator`."""
    return models.build_generator(
        config.image_size,
        sum(kind.channels for kind in input_kinds(config)),
        target_kind(config).channels,
        config.base_filters,
        per_image_statistics=config.statistics == "per_image",
        dtype=dtype_policy(config),
        any_size=any_size,
        noise=noise,
        compact_weights=compact_weights,
    )


def dtype_policy(config: TrainConfig) -> str:
    """Keras' name of what the run computes in; the weights that are trained stay float32."""
    return "mixed_bfloat16" if config.precision == "bfloat16" else "float32"


def weights_checksum(generator: keras.Model) -> str:
    """sha256 of the generator's weights, hexadecimal: the same in training, and restored from whatever checkpoint."""
    digest = hashlib.sha256()
    for variable in generator.weights:
        value = np.ascontiguousarray(variable.numpy())
        digest.update(f"{variable.path} {value.dtype} {value.shape}\n".encode())
        digest.update(value)
    return digest.hexdigest()
