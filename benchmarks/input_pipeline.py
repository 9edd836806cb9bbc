"""How fast pairs come in: decoding, jitter, the whole training pipeline, loose and in shards, and a PyTorch DataLoader.

    pip install -e ".[bench]"
    python benchmarks/input_pipeline.py [--data_dir=DATA]

DATA holds train/ of 512x256 JPEG composites; without it 400 scenes of the demo town are drawn, with grain, so that the
files are as large as photographs. The DataLoader does with Pillow what the common PyTorch pix2pix does: open, cut,
resize to 286 (bicubic as there, and bilinear as here), crop, mirror, to tensors in [-1, 1]; as many workers as cores.
Preparing is the whole p2p-prepare from two folders of 354x354 JPEGs to 256x256, from its start to its end.
Every figure is the median of several rounds; the rounds of all alternate, so that a noisy minute hits all of them.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import torch
from PIL import Image

from p2p_keras.data import pipeline, town
from p2p_keras.data.pairs import Files, Reading, find_pairs
from p2p_keras.data.prepare import prepare, sources, splits
from p2p_keras.data.prepare.stack import Form
from p2p_keras.images import codec

BATCH, CORES, READING = 16, os.cpu_count() or 1, Reading()
BASELINE = "PyTorch DataLoader with Pillow"
ALL_TRAIN = splits.Shares(100, 0, 0)


def draw_composites(folder: Path, count: int) -> None:
    """JPEG composites of 512x256 whose files are as large as a photograph's."""
    folder.mkdir(parents=True)
    for index in range(count):
        rng = np.random.default_rng(index)
        both = np.concatenate(town.draw_scene(0, "train", index, 256), axis=1)
        grainy = np.clip(both + rng.normal(0, 6, both.shape), 0, 255).astype(np.uint8)
        Image.fromarray(grainy).save(folder / f"{index:05d}.jpg", quality=90)


def split_panels(composites: Iterable[str], folder: Path, count: int) -> None:
    """The panels of composites as single JPEGs of 354x354, GTCrossView's size."""
    for panel in ("street", "aerial"):
        (folder / panel).mkdir(parents=True)
    composites = list(composites)
    for index in range(count):
        with Image.open(composites[index % len(composites)]) as both:
            for panel, left in (("street", 0), ("aerial", 256)):
                single = both.crop((left, 0, left + 256, 256)).resize((354, 354), Image.Resampling.BICUBIC)
                single.save(folder / panel / f"{index:05d}.jpg", quality=90)


def pairs_per_second(batches: Iterable, count: int) -> float:
    """Pairs a second after the first batch, so without the start."""
    iterator = iter(batches)
    next(iterator)
    started = time.perf_counter()
    for _ in iterator:
        pass
    return (count - BATCH) / (time.perf_counter() - started)


def decoded(files: Files, count: int) -> tf.data.Dataset:
    table = tf.constant([row[0] for row in files.paths])
    return (
        tf.data.Dataset.range(count)
        .map(lambda n: codec.decode(tf.io.read_file(table[n % len(files)])), num_parallel_calls=tf.data.AUTOTUNE)
        .batch(BATCH)
        .prefetch(tf.data.AUTOTUNE)
    )


def jittered(files: Files, count: int) -> tf.data.Dataset:
    read_pair = pipeline.make_reader(files, READING)

    def example(n: tf.Tensor) -> tuple[tf.Tensor, ...]:
        draw = pipeline.draw_jitter(tf.stack([0, tf.cast(n, tf.int32)]), 256)
        return tuple(pipeline.random_jitter(image, draw, 256) for image in read_pair(n % len(files)))

    return (
        tf.data.Dataset.range(count)
        .map(example, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(BATCH)
        .prefetch(tf.data.AUTOTUNE)
    )


def training(files: Files, count: int) -> tf.data.Dataset:
    return pipeline.training_dataset(files, READING, BATCH, 0, 0, count // BATCH)


class PillowPairs(torch.utils.data.Dataset):
    """The aligned data set of the common PyTorch pix2pix, without torchvision."""

    def __init__(self, files: Files, count: int, resampling: Image.Resampling) -> None:
        self.paths, self.count, self.resampling = [row[0] for row in files.paths], count, resampling

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        with Image.open(self.paths[index % len(self.paths)]) as file:
            both = file.convert("RGB")
        half, (x, y), mirrored = both.width // 2, torch.randint(0, 31, (2,)).tolist(), torch.rand(()) < 0.5
        pair = []
        for left in (0, half):
            panel = both.crop((left, 0, left + half, both.height)).resize((286, 286), self.resampling)
            panel = panel.crop((x, y, x + 256, y + 256))
            if mirrored:
                panel = panel.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            tensor = torch.from_numpy(np.array(panel)).permute(2, 0, 1).contiguous()
            pair.append(tensor.float().div(127.5).sub(1.0))
        return tuple(pair)


def data_loader(files: Files, count: int, resampling: Image.Resampling) -> torch.utils.data.DataLoader:
    pairs = PillowPairs(files, count, resampling)
    return torch.utils.data.DataLoader(pairs, BATCH, shuffle=True, num_workers=CORES, drop_last=True)


def preparing(folder: Path, output: Path, count: int) -> float:
    # The command itself: a worker of this process would import this file, and with it PyTorch.
    command = [sys.executable, "-m", "p2p_keras.cli.prepare", f"--output={output}", "--splits=100,0,0"]
    command += [f"--first={folder / 'street'}", f"--second={folder / 'aerial'}"]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return count / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, help="train/ of 512x256 JPEG composites")
    parser.add_argument("--pairs", type=int, default=4000, help="pairs of each round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        if arguments.data_dir is None:
            draw_composites(root / "data" / "train", 400)
        loose = find_pairs(arguments.data_dir or root / "data").files("train")
        found = sources.composites(Path(loose.paths[0][0]).parent, panels=("a", "b"))
        prepare(found, splits.by_hash(found.sources, ALL_TRAIN), root / "sharded", Form(), {}, shards=1, workers=CORES)
        sharded = find_pairs(root / "sharded").files("train")
        split_panels([row[0] for row in loose.paths], root / "raw", arguments.pairs)
        sizes = [os.path.getsize(row[0]) for row in loose.paths]
        print(f"{len(loose)} files of {np.mean(sizes) / 1000:.0f} kB on average, {CORES} cores, batch {BATCH}")

        count, filters = arguments.pairs, Image.Resampling
        work: dict[str, Callable[[int], float]] = {
            "decode only": lambda _: pairs_per_second(decoded(loose, count), count),
            "decode and jitter": lambda _: pairs_per_second(jittered(loose, count), count),
            "training pipeline, loose files": lambda _: pairs_per_second(training(loose, count), count),
            "training pipeline, shards": lambda _: pairs_per_second(training(sharded, count), count),
            BASELINE: lambda _: pairs_per_second(data_loader(loose, count, filters.BILINEAR), count),
            "the same, bicubic": lambda _: pairs_per_second(data_loader(loose, count, filters.BICUBIC), count),
            "preparing, 354x354 to 256x256": lambda number: preparing(root / "raw", root / f"out{number}", count),
        }
        rates: dict[str, list[float]] = {name: [] for name in work}
        for number in range(arguments.rounds):
            for name, measure in work.items():
                rates[name].append(measure(number))
        theirs = rates[BASELINE]
        for name, found_rates in rates.items():
            ratio = statistics.median(ours / other for ours, other in zip(found_rates, theirs, strict=True))
            listed = ", ".join(f"{rate:.0f}" for rate in found_rates)
            print(f"{name:32} {statistics.median(found_rates):6.0f} pairs/s  {ratio:4.1f} x DataLoader  ({listed})")


if __name__ == "__main__":  # the workers import this file
    main()
