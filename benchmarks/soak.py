"""A long run and many requests: do memory, open files and threads stay flat?

    python benchmarks/soak.py --steps=20000 --requests=10000

First p2p-train on drawn pairs with a tiny network: an epoch is 10 steps, with samples every 5 epochs, an evaluation
every 10, and a checkpoint every 50 steps. Then requests to its export, through `serving_default` and `translate` in
turn, with pictures of many sizes. Prints the process's resident memory, open files and threads every twentieth of the
way, and how much they grew from the second quarter on, memory by a line of least squares.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

PARTS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--workdir", default="", help="Where the run goes, or lies; without, it goes when this ends.")
    parser.add_argument("--export", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.export:
        send_requests(Path(arguments.export), arguments.requests)
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(arguments.workdir or folder)
        draw_pairs(root / "data")
        if arguments.steps:
            train(root, arguments.steps)
        flags = [f"--workdir={root / 'run'}", f"--output={root / 'export'}"]
        subprocess.run([sys.executable, "-m", "p2p_keras.cli.export", *flags], check=True, stdout=subprocess.DEVNULL)
        flags = [f"--export={root / 'export'}", f"--requests={arguments.requests}"]
        subprocess.run([sys.executable, __file__, *flags], check=True)


def draw_pairs(root: Path) -> None:
    """Smooth colours, and their negatives beside them."""
    random = np.random.default_rng(0)
    for split, count in (("train", 40), ("val", 12)):
        (root / split).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            image = Image.fromarray(random.integers(0, 256, (4, 4, 3), np.uint8)).resize((32, 32), Image.BICUBIC)
            pair = np.concatenate([np.asarray(image), 255 - np.asarray(image)], axis=1)
            Image.fromarray(pair).save(root / split / f"{number:03}.png")


def train(root: Path, steps: int) -> None:
    flags = "--direction=AtoB --image_size=32 --base_filters=4 --discriminator=pixel --batch_size=4"
    flags += f" --steps={steps} --samples_every_epochs=5 --eval_every_epochs=10 --checkpoint_every_steps=50"
    command = [sys.executable, "-m", "p2p_keras.cli.train", *flags.split()]
    command += [f"--data_dir={root / 'data'}", f"--workdir={root / 'run'}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    rows, next_at, started = [], steps // PARTS, time.monotonic()
    for line in process.stdout:
        if line.startswith("epoch "):
            step = round(float(line.split()[1].split("/")[0]) * 10)
            if step >= next_at:
                rows.append((step, *state_of(process.pid)))
                next_at += steps // PARTS
    if process.wait():
        sys.exit("p2p-train failed")
    print(f"p2p-train, {steps} steps in {time.monotonic() - started:.0f} s, with evaluations, samples, checkpoints")
    show(rows, "step")
    left = sorted(path.name for path in (root / "run").iterdir())
    print(f"its folder: {', '.join(left)}; {sum(1 for _ in (root / 'run').rglob('*'))} files and folders\n")


def send_requests(export: Path, count: int) -> None:
    import tensorflow as tf

    model = tf.saved_model.load(str(export / max(path.name for path in export.iterdir() if path.name.isdigit())))
    random, rows, started = np.random.default_rng(0), [], time.monotonic()
    sides = random.integers(8, 200, (count, 2))
    for number, (height, width) in enumerate(sides):
        image = random.integers(0, 256, (height, width, 3), np.uint8)
        if number % 2:
            encoded = tf.io.encode_png(image) if number % 4 == 1 else tf.io.encode_jpeg(image)
            model.signatures["serving_default"](encoded[tf.newaxis])
        else:
            model.signatures["translate"](tf.constant(image[np.newaxis]))
        if (number + 1) % (count // PARTS) == 0:
            rows.append((number + 1, *state_of("self")))
    print(f"the export, {count} requests in {time.monotonic() - started:.0f} s, {len(set(map(tuple, sides)))} sizes")
    show(rows, "request")


def state_of(pid: int | str) -> tuple[float, int, int]:
    """Resident memory in MB, open files, threads."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    files = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return int(status["VmRSS"].split()[0]) / 1e3, files, int(status["Threads"])


def show(rows: list[tuple[int, float, int, int]], what: str) -> None:
    print(f"| {what} | resident, MB | open files | threads |\n|---|---|---|---|")
    for number, memory, files, threads in rows:
        print(f"| {number} | {memory:.1f} | {files} | {threads} |")
    later = np.array(rows[len(rows) // 4 :])
    slope = np.polyfit(later[:, 0], later[:, 1], 1)[0] * (later[-1, 0] - later[0, 0])
    print(f"from the second quarter on: {slope:+.1f} MB, {later[-1, 2] - later[0, 2]:+.0f} files, ", end="")
    print(f"{later[-1, 3] - later[0, 3]:+.0f} threads")


if __name__ == "__main__":
    main()
