"""Two logical CPU devices before TensorFlow starts, and small drawn pairs that tell their own story."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from p2p_keras.config import TrainConfig
from p2p_keras.train import train

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@pytest.fixture
def one_device() -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy(["CPU:0"])


def draw_pair(index: int, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """A coloured square on black, and the same square's negative on white: each predicts the other."""
    rng = np.random.RandomState(index)
    top, left = rng.randint(0, size // 2, 2)
    colour = rng.randint(40, 216, 3)
    first = np.zeros((size, size, 3), np.uint8)
    first[top : top + size // 2, left : left + size // 2] = colour
    return first, 255 - first


def write_pairs(folder: Path, count: int, size: int = 32, first_index: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.fromarray(np.concatenate(draw_pair(first_index + i, size), axis=1)).save(folder / f"{i:03d}.png")


@pytest.fixture
def pairs_dir(tmp_path: Path) -> Path:
    """12 training and 3 validation pairs of 32x32, two panels without names."""
    write_pairs(tmp_path / "data" / "train", 12)
    write_pairs(tmp_path / "data" / "val", 3, first_index=100)
    return tmp_path / "data"


def small_config(data: Path, **settings) -> TrainConfig:
    """A run that takes seconds: of 12 pairs in batches of 4, so three steps an epoch."""
    small = {
        "image_size": 32,
        "base_filters": 4,
        "batch_size": 4,
        "epochs": 2,
        "precision": "float32",
        "direction": "AtoB",
    }
    return TrainConfig(**{**small, "data_dir": str(data), **settings})


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> tuple[Path, Path, list[str]]:
    """A run of two epochs that nothing interrupted, not to be written to: its folder, its data, what it reported."""
    data = tmp_path_factory.mktemp("pairs")
    write_pairs(data / "train", 12)
    write_pairs(data / "val", 3, first_index=100)
    workdir, told = tmp_path_factory.mktemp("run"), []
    assert train(small_config(data), workdir, tf.distribute.MirroredStrategy(["CPU:0"]), told.append) is None
    return workdir, data, told


SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture
def shared_data() -> Path:
    """Real pictures that lie beside this checkout on some machines; they may not be part of it."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real pictures are not beside this checkout (shared/data)")
    return SHARED_DATA
