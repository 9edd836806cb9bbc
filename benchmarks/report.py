"""The report's four experiments, scaled down so that they run on a few cores, and its figures 10 to 13 as one chart.

    python benchmarks/report.py --output=REPORT --inception=default

1,000 pairs of the drawn town at 128x128 instead of 55,000 of Dayton at 256x256; networks of a quarter of the width;
batches of 32, 12, 6 and 1 instead of 128, 48, 24 and 1: a quarter of the report's, but for the last. Directions and
learning rate are the report's. Each experiment takes `--epochs`, a snapshot of the generator is kept for every other
one, and p2p-eval scores all of them on 500 scenes against the training targets, as in section 5.1 of the report.

The chart is REPORT/experiment1/eval/test/curves-against-train.png: FID of figures 10 and 11, Inception Score of 12 and
13 (if the network has logits), a curve for each experiment. Stopped, the same command goes on.
"""

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from p2p_keras.data.town import ensure_town  # noqa: E402, found by the line above
from p2p_keras.presets import PRESETS  # noqa: E402

BATCHES = {"experiment1": 32, "experiment2": 12, "experiment3": 6, "experiment4": 1}
COUNTS = {"train": 1000, "val": 60, "test": 500}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--inception", required=True, help="As for p2p-eval.")
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    data = ensure_town(arguments.output / "scenes", 128, counts=COUNTS)
    for name, batch_size in BATCHES.items():
        call(
            "train",
            f"--data_dir={data}",
            f"--workdir={arguments.output / name}",
            f"--preset={name}",
            f"--batch_size={batch_size}",
            "--base_filters=16",
            f"--epochs={arguments.epochs}",
            "--snapshot_every_epochs=2",
            f"--samples_every_epochs={arguments.epochs}",
        )
    runs = ",".join(str(arguments.output / name) for name in PRESETS if name in BATCHES)
    call("eval", f"--workdir={runs}", "--checkpoint=all", "--reference=train", f"--inception={arguments.inception}")


def call(command: str, *flags: str) -> None:
    """One of this package's commands."""
    print(f"p2p-{command} {' '.join(flags)}", flush=True)
    subprocess.run([sys.executable, "-m", f"p2p_keras.cli.{command}", *flags], check=True, cwd=ROOT)


if __name__ == "__main__":
    main()
