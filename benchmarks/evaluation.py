"""What an evaluation costs: generating, extracting features, the paired metrics, the distances at 2048 features.

    python benchmarks/evaluation.py [--inception=PATH]

Without --inception the extractor is Keras' Inception v3 with random weights: the same layers, so the same time, and
numbers that mean nothing. The Frechet distance that is reported, by tensorflow-gan's formula on our statistics, is
timed beside the two that check it: tensorflow-gan's own function of activations, which it must equal to rounding, and
the one by singular values, which it must equal but for the eigenvalues below 1e-10 that tensorflow-gan leaves out.
Every figure is the median of several rounds; the rounds of all alternate, so that a noisy minute hits all of them.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from random_inception import random_inception

from p2p_keras.config import TrainConfig
from p2p_keras.evaluation.scoring import PAIRED
from p2p_keras.metrics import _tfgan, distribution, load_extractor
from p2p_keras.models import make_inference
from p2p_keras.system.devices import fast_precision
from p2p_keras.training.networks import build_generator

ROUNDS, BATCH, WIDTH = 5, 16, 2048


def drawn_features(count: int, seed: int) -> np.ndarray:
    """Correlated features with a spectrum that falls as Inception's does."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).standard_normal((WIDTH, WIDTH)) / np.sqrt(WIDTH)
    return (rng.standard_normal((count, WIDTH)) * np.exp(-np.arange(WIDTH) / 500) @ mixing).astype(np.float32)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--inception", help="a SavedModel, frozen graph, archive or URL")
parser.add_argument("--features", type=int, default=5000, help="images on each side of the distances")
arguments = parser.parse_args()

with tempfile.TemporaryDirectory() as folder:
    extractor = load_extractor(arguments.inception or str(random_inception(Path(folder) / "inception")))
rng = np.random.default_rng(0)
generated, reference = rng.integers(0, 256, (2, BATCH, 256, 256, 3)).astype(np.uint8)
work: dict[str, tuple[int, Callable[[], object]]] = {
    f"features ({extractor.width}, float32)": (BATCH, lambda: extractor.run(generated)),
    **{
        f"paired: {name}": (BATCH, lambda metric=metric: metric(generated, reference))
        for name, metric in PAIRED.items()
    },
}
for precision in dict.fromkeys((fast_precision(), "float32")):
    generate = make_inference(build_generator(TrainConfig(image_size=256, precision=precision)))
    noise = tf.random.uniform((BATCH, 256, 256, 3), -1, 1)
    work[f"generation, {precision}"] = (BATCH, lambda generate=generate, noise=noise: generate(noise).numpy())

one, other = drawn_features(arguments.features, 1), drawn_features(arguments.features, 2) + np.float32(0.01)
double = [tf.constant(features, tf.float64) for features in (other, one)]  # tensorflow-gan takes the reference first
described = [distribution.statistics(features) for features in (one, other)]
work |= {
    "FID": (0, lambda: distribution.frechet_distance(one, other)),
    "FID from activations": (0, lambda: _tfgan.frechet_classifier_distance_from_activations(*double)),
    "FID by singular values": (0, lambda: distribution.frechet_distance_by_singular_values(*described)),
    "KID, 100 subsets of 1000": (0, lambda: distribution.kernel_distance(one, other)),
    "Inception Score, 1008 classes": (0, lambda: distribution.inception_score(one[:, :1008])),
}
for _, call in work.values():
    call()  # traces and warms up
rounds = [{name: seconds(call) for name, (_, call) in work.items()} for _ in range(ROUNDS)]
print(f"256x256, batch {BATCH}; distances over 2 x {arguments.features} images of {WIDTH} features; {ROUNDS} rounds")
for name, (images, _) in work.items():
    median = statistics.median(each[name] for each in rounds)
    print(f"{name:32s}" + (f"{images / median:8.1f} images/s" if images else f"{median:8.2f} s"))
reported, theirs, second = (
    float(work[name][1]()) for name in ("FID", "FID from activations", "FID by singular values")
)
print(f"FID {reported:.9f}; from activations {theirs:.9f}; by singular values {second:.9f}")
