"""How much memory an evaluation takes, on generated data: drawn pairs, untrained networks, 2048 features.

    python benchmarks/evaluation_memory.py --images=21048 --filters=8 --small_extractor
    python benchmarks/evaluation_memory.py --images=500

The first shows what grows with the number of images, the second what the full networks need; together they bound the
evaluation of Dayton's test split without an hour of computing. The data set is the same 100 drawn pairs under many
names (hard links).
"""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image
from random_inception import random_inception

from p2p_keras.config import TrainConfig
from p2p_keras.evaluation.run import evaluate, open_evaluation
from p2p_keras.metrics import load_extractor
from p2p_keras.training.networks import build_generator
from p2p_keras.workdir.folder import to_json

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--images", type=int, default=21048)
parser.add_argument("--filters", type=int, default=64, help="of the generator; 64 is the paper's")
parser.add_argument("--small_extractor", action="store_true", help="one convolution instead of Inception's layers")
arguments = parser.parse_args()


def write_data(root: Path) -> None:
    drawn = []
    for split, count in (("train", 8), ("test", arguments.images)):
        (root / split).mkdir(parents=True)
        for i in range(count):
            path = root / split / f"{i:05d}.jpg"
            if len(drawn) < 100:
                rng = np.random.default_rng(i)
                small = Image.fromarray(rng.integers(0, 256, (16, 32, 3)).astype(np.uint8))
                small.resize((512, 256), Image.Resampling.BICUBIC).save(path, quality=95)
                drawn.append(path)
            else:
                os.link(drawn[i % 100], path)


class SmallExtractor(tf.Module):
    """2048 features of 299x299 images for next to nothing."""

    def __init__(self) -> None:
        self.kernel = tf.Variable(tf.random.stateless_normal((23, 23, 3, 2048), (0, 0), stddev=0.03))

    @tf.function(input_signature=[tf.TensorSpec((None, 299, 299, 3), tf.float32)])
    def __call__(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        small = tf.image.resize(images, (23, 23), method="area")
        return {"pool_3": tf.nn.relu(tf.nn.conv2d(small, self.kernel, 1, "VALID"))}


with tempfile.TemporaryDirectory() as folder:
    root = Path(folder)
    write_data(root / "data")
    config = TrainConfig(
        data_dir=str(root / "data"), direction="AtoB", image_size=256, base_filters=arguments.filters, batch_size=4
    )
    (root / "run" / "checkpoints" / "step_00000001").mkdir(parents=True)
    (root / "run" / "config.json").write_text(to_json(config, data={"counts": {"train": 8}}))
    generator = build_generator(config)
    tf.train.Checkpoint(generator=generator).write(str(root / "run/checkpoints/step_00000001/checkpoint"))
    del generator
    if arguments.small_extractor:
        tf.saved_model.save(SmallExtractor(), str(root / "extractor"))
    else:
        random_inception(root / "extractor")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    (record,) = evaluate(open_evaluation(root / "run"), load_extractor(str(root / "extractor")))
    secs = time.monotonic() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(f"{record['count']} images, {len(record['metrics'])} metrics, {secs / 60:.1f} minutes")
print(f"peak memory {peak / 1e6:.2f} GB, of it {before / 1e6:.2f} GB before the evaluation began")
