"""How much a run learnt: L1 on its val pairs, next to that of always answering the mean training target.

    python benchmarks/l1_against_mean.py --workdir=runs/a2s

Both in [-1, 1], by the run's inference contract. Below 100 % the generator looks at its input at all.
"""

import argparse
from pathlib import Path

import numpy as np

from p2p_keras.data import pipeline
from p2p_keras.models import make_inference
from p2p_keras.training.networks import build_generator
from p2p_keras.workdir import checkpoints
from p2p_keras.workdir.folder import read_config
from p2p_keras.workdir.resolve import resolve

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--workdir", type=Path, required=True)
arguments = parser.parse_args()

saved, _ = read_config(arguments.workdir / "config.json")
config, data = resolve(saved, saved, arguments.workdir, print)
generator = build_generator(config)
step = checkpoints.list_steps(arguments.workdir / "checkpoints")[-1]
checkpoints.restore_generator(generator, checkpoints.path_of(arguments.workdir / "checkpoints", step))
generate = make_inference(generator)


def targets(split: str) -> list[np.ndarray]:
    batches = pipeline.inference_dataset(data.pairs.files(split), data.reading, batch_size=24)
    return [target.numpy() for _, target in batches]


mean = np.concatenate(targets("train")).mean(axis=0)
l1, baseline = [], []
for input_image, target_image in pipeline.inference_dataset(data.pairs.files("val"), data.reading, batch_size=24):
    l1 += np.abs(generate(input_image) - target_image).mean(axis=(1, 2, 3)).tolist()
    baseline += np.abs(mean - target_image).mean(axis=(1, 2, 3)).tolist()
print(f"step {step}, {len(l1)} val pairs: L1 {np.mean(l1):.4f}, the mean training target {np.mean(baseline):.4f}")
print(f"ratio {np.mean(l1) / np.mean(baseline):.1%}")
