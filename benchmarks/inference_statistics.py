"""Batch normalisation at inference: what a run's newest weights score by each kind of statistics.

    python benchmarks/inference_statistics.py --workdir=RUN --split=val --inception=INCEPTION

- moving: the averages over training.
- re-estimated: averages made anew by the newest weights, over batches of training pairs as large as in training,
  without noise.
- per_image: each image's own.
- batch: of so many pairs of the split at once as in training, which no export can do; how it looked while training.
- with noise: the run's own statistics, and dropout as in training.

Beside the metrics: mean and standard deviation of the generated images less those of the targets, in levels of 255, for
a shift of colour or contrast.
"""

import argparse
import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from p2p_keras.data import pipeline
from p2p_keras.evaluation import scoring
from p2p_keras.evaluation.lanes import Lane
from p2p_keras.evaluation.split import take_split
from p2p_keras.layers.batch_norm import BatchNorm
from p2p_keras.metrics.inception import load_extractor
from p2p_keras.models import make_inference
from p2p_keras.workdir.folder import read_config
from p2p_keras.workdir.generator import build_generator, restore_each
from p2p_keras.workdir.resolve import Data, resolve

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--workdir", type=Path, required=True)
parser.add_argument("--split", default="val")
parser.add_argument("--inception", required=True)


def main() -> None:
    arguments = parser.parse_args()
    saved, _ = read_config(arguments.workdir / "config.json")
    config, data = resolve(saved, saved, arguments.workdir, print)
    pairs = take_split(data.pairs, data.reading, arguments.split)
    extractor, reference = load_extractor(arguments.inception, print), None
    rows = []
    if pairs.reading.target_kind.labels:
        parser.error("the run's targets are label maps, of which there is no brightness")
    noisy = ["with noise"] if config.dropout else []
    for name in ("moving", "re-estimated", "per_image", "batch", *noisy):
        kinds = {"per_image": "per_image", "with noise": config.statistics}
        generator = build_generator(dataclasses.replace(config, statistics=kinds.get(name, "moving")))
        step = next(restore_each(generator, arguments.workdir / "checkpoints", "latest"))
        if name == "re-estimated":
            reestimate(generator, data, config.batch_size)
        generate = make_inference(generator)
        if name == "batch":
            generate = tf.function(lambda image, generator=generator: generator([image, None], training=True))
        if name == "with noise":
            generate = with_noise(generator)
        lanes, seen = [Lane(generate, extractor)], []
        size = config.batch_size if name == "batch" else 16
        scores = scoring.score_images(lanes, pairs, size, lambda _, generated, seen=seen: seen.append(generated))
        if reference is None:
            with tempfile.TemporaryDirectory() as folder:
                reference = scoring.describe_reference(lanes, pairs, 16, Path(folder) / "reference.npz")
        metrics = scoring.summarise(scores, reference, extractor).metrics
        generated = np.concatenate(seen).astype(np.float64)
        rows.append((name, metrics, generated.mean(), generated.std()))
    targets = [
        np.clip((target.numpy() + 1) * 127.5, 0, 255)
        for _, target in pipeline.inference_dataset(pairs.files, pairs.reading, 16)
    ]
    mean, deviation = np.concatenate(targets).mean(), np.concatenate(targets).std()
    label = extractor.label
    print(f"{arguments.workdir}, step {step}, batch {config.batch_size}, {len(pairs.files)} of {arguments.split}/")
    print(f"| statistics | FID{label} | KID{label} x1000 | SSIM | PSNR | L1 | brightness | contrast |")
    print("|" + "---|" * 8)
    for name, metrics, brightness, contrast in rows:
        print(
            f"| {name} | {metrics[f'fid{label}']:.3f} | {1000 * metrics[f'kid{label}']:.2f} | {metrics['ssim']:.3f} | "
            f"{metrics['psnr']:.2f} | {metrics['l1'] * 127.5:.1f} | {brightness - mean:+.1f} | "
            f"{contrast - deviation:+.1f} |"
        )


def with_noise(generator: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """Draws other noise for each image that it is given."""
    call = tf.function(lambda image, seed: generator([image, seed], training=False))
    drawn = np.random.default_rng(0)
    return lambda image: call(image, tf.constant(drawn.integers(2**31, size=(len(image), 2)), tf.int32))


def reestimate(generator: keras.Model, data: Data, batch_size: int, images: int = 400) -> None:
    """Sets the moving averages to the mean over batches of training pairs."""
    norms = [layer for layer in generator.layers if isinstance(layer, BatchNorm)]
    batches = pipeline.inference_dataset(data.pairs.files("train"), data.reading, batch_size)
    for number, (input_image, _) in enumerate(batches.take(max(1, images // batch_size))):
        for layer in norms:
            layer.momentum = number / (number + 1)
        generator([input_image, None], training=True)


if __name__ == "__main__":
    main()
