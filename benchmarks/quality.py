"""Which settings make better pictures: a grid of trainings, each scored, in one table.

    python benchmarks/quality.py --cells=CELLS --data_dir=DATA --output=QUALITY \\
        --inception=INCEPTION --images=4000 --seeds=0,1,2

A file of cells has a line for each: its name, and the flags of p2p-train that make it another one. Each cell trains
once for each seed, a run in QUALITY/runs, and is scored by p2p-eval on val/ and test/ after so many images. The same
command goes on where it was stopped, and leaves out what is finished; a new line in the file is a new cell, other flags
under an old name are an error. Results are in QUALITY/results.json and QUALITY/results.md. One training at a time.

    python benchmarks/quality.py ... --torch_python=PYTHON_WITH_TORCH

adds the standard PyTorch pix2pix on the same pairs, scored by the same code, as cells pytorch-train (batch statistics
and dropout, as its users test it) and pytorch-eval.
"""

import argparse
import fcntl
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from p2p_keras.metrics.checkerboard import checkerboard  # noqa: E402, found by the lines above
from p2p_keras.presets import PRESETS  # noqa: E402

os.environ["PYTHONPATH"] = str(ROOT)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SPLITS = ("val", "test")  # that are scored, if they are there
COLUMNS = {  # of the tables: name, factor, digits
    "fid": ("FID", 1, 3),
    "kid": ("KID x1000", 1000, 2),
    "ssim": ("SSIM", 1, 3),
    "psnr": ("PSNR", 1, 2),
    "l1": ("L1 (0-255)", 127.5, 1),
    "checkerboard": ("checkerboard, dB", 1, 1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=Path, required=True, help="File with a line for each: name and flags.")
    parser.add_argument("--only", default="", help="Cells whose names begin with one of these, commas between.")
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--direction", default="AtoB")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--inception", required=True, help="As for p2p-eval.")
    parser.add_argument("--images", default="4000", help="Training images after which to score, commas between.")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--flags", default="", help="Of p2p-train, for every cell.")
    parser.add_argument("--torch_python", default="", help="An interpreter that has PyTorch.")
    parser.add_argument("--keep", action="store_true", help="Keep the checkpoints of what is scored.")
    arguments = parser.parse_args()
    cells = {
        name: flags
        for name, flags in read_cells(arguments.cells).items()
        if name.startswith(tuple(arguments.only.split(",")))
    }
    if not cells and not arguments.torch_python:
        parser.error(f"no cell of {arguments.cells} begins with {arguments.only}")
    if not any((Path(arguments.data_dir) / split).is_dir() for split in SPLITS):
        parser.error(f"only val/ and test/ are scored, and {arguments.data_dir} has neither val/ nor test/")
    arguments.output.mkdir(parents=True, exist_ok=True)
    with (arguments.output / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            parser.error(f"another one works in {arguments.output}: one training at a time")
        results = Results(arguments.output, arguments.data_dir, arguments.direction)
        for seed in map(int, arguments.seeds.split(",")):
            for name, flags in cells.items():
                run_cell(arguments, results, name, [*arguments.flags.split(), *flags], seed)
            if arguments.torch_python:
                run_torch(arguments, results, seed)
    print(results.table.read_text())


def read_cells(path: Path) -> dict[str, list[str]]:
    """Flags by the cells' names."""
    lines = [line.split("#")[0].split() for line in path.read_text().splitlines()]
    cells = {name: flags for name, *flags in filter(None, lines)}
    assert len(cells) == sum(map(bool, lines)), f"{path} has two cells of one name"
    return cells


class Results:
    """What is known, one record for each cell, seed, number of images and split; saved after every change."""

    def __init__(self, folder: Path, data: str, direction: str) -> None:
        self.file, self.table = folder / "results.json", folder / "results.md"
        self.data, self.direction = Path(data).name, direction
        self.records = json.loads(self.file.read_text()) if self.file.exists() else []

    def has(self, cell: str, flags: list[str], seed: int, images: int) -> bool:
        """Whether this one is scored."""
        found = [record for record in self.records if (record["data"], record["cell"]) == (self.data, cell)]
        now = " ".join([self.direction, *flags])
        for record in found:  # also with another seed: the table is of their means
            was = " ".join([record.get("direction", self.direction), *record["flags"]])
            if was != now:
                sys.exit(f"{cell} was measured with {was}, and is now {now}. Call it otherwise, or its --output.")
        return any((record["seed"], record["images"]) == (seed, images) for record in found)

    def add(self, records: list[dict]) -> None:
        """Saves them, instead of what was known of the same, and draws the table anew."""
        added = {_key(one): one for one in ({"data": self.data, "direction": self.direction, **r} for r in records)}
        self.records = [one for one in self.records if _key(one) not in added] + list(added.values())
        for path, text in ((self.file, json.dumps(self.records, indent=1)), (self.table, self.as_markdown())):
            beside = path.with_suffix(".part")
            beside.write_text(text + "\n")
            beside.replace(path)

    def as_markdown(self) -> str:
        """A table for each data set, split and number of images: means over the seeds, and the least and the most."""
        lines = []
        for data, split, images in sorted({(one["data"], one["split"], one["images"]) for one in self.records}):
            here = [one for one in self.records if (one["data"], one["split"], one["images"]) == (data, split, images)]
            counts = sorted({one["count"] for one in here})
            label = here[0]["label"]
            titles = [
                title.replace("FID", f"FID{label}").replace("KID", f"KID{label}") for title, _, _ in COLUMNS.values()
            ]
            lines += [f"\n{data}, {images:,} training images, {'/'.join(map(str, counts))} of {split}/\n"]
            lines += ["| " + " | ".join(["cell", "seeds", *titles, "s/image", "flags"]) + " |", "|" + "---|" * 10]
            rows = []
            for cell in dict.fromkeys(one["cell"] for one in here):
                mine = [one for one in here if one["cell"] == cell]
                values = [
                    _spread([one[name] * by for one in mine if name in one], digits)
                    for name, (_, by, digits) in COLUMNS.items()
                ]
                pace = statistics.median(one["secs"] / images for one in mine)
                rows.append(
                    (
                        statistics.mean(one["fid"] for one in mine),
                        f"| {cell} | {len(mine)} | {' | '.join(values)} | {pace:.3f} | {' '.join(mine[0]['flags'])} |",
                    )
                )
            lines += [row for _, row in sorted(rows)]
        return "\n".join(lines)


def _key(record: dict) -> tuple:
    return tuple(record[name] for name in ("data", "cell", "seed", "images", "split"))


def _spread(values: list[float], digits: int) -> str:
    if not values:
        return ""
    mean = f"{statistics.mean(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def run_cell(arguments: argparse.Namespace, results: Results, cell: str, flags: list[str], seed: int) -> None:
    """Trains one cell with one seed, unless it is scored, and scores it."""
    marks = sorted(map(int, arguments.images.split(",")))
    workdir = arguments.output / "runs" / Path(arguments.data_dir).name / f"{cell}-s{seed}"
    if all(results.has(cell, flags, seed, mark) for mark in marks):
        if not arguments.keep:  # of a cell that was scored, and stopped before they were removed
            shutil.rmtree(workdir / "checkpoints", ignore_errors=True)
        return
    batch = batch_of(flags)
    steps = [mark // batch for mark in marks]
    every = math.gcd(*steps)
    common = [f"--data_dir={arguments.data_dir}", f"--direction={arguments.direction}", f"--workdir={workdir}"]
    lengths = [f"--steps={steps[-1]}", f"--checkpoint_every_steps={every}", "--keep_checkpoints=0"]
    _call("train", *common, *lengths, f"--seed={seed}", *flags)
    secs, records = _seconds(workdir), []
    for split in SPLITS:
        if not (Path(arguments.data_dir) / split).is_dir():
            continue
        for step in steps:
            _call(
                "eval",
                "--save_images",
                f"--workdir={workdir}",
                f"--checkpoint={step}",
                f"--split={split}",
                f"--inception={arguments.inception}",
            )
        pictures = workdir / "eval" / split / "images"
        for record in json.loads((workdir / "eval" / split / "metrics.json").read_text())["records"]:
            if record["step"] in steps:
                mark = marks[steps.index(record["step"])]
                took = secs[record["step"]] if record["step"] in secs else max(secs.values()) * mark / marks[-1]
                records.append(
                    {"cell": cell, "flags": flags, "seed": seed, "images": mark, "split": split, "secs": took}
                    | _numbers(record["metrics"], record["count"], pictures / f"step_{record['step']:08d}")
                )
    results.add(records)
    if not arguments.keep:
        shutil.rmtree(workdir / "checkpoints")


def batch_of(flags: list[str]) -> int:
    """Images of a step, by what p2p-train makes of the flags."""
    for flag in flags:
        if not flag.startswith("--"):
            sys.exit(f"Flags of cells are written as --name=value. Received: {flag}")
    given = dict(flag.removeprefix("--").partition("=")[::2] for flag in flags)
    if (preset := given.get("preset", "best")) not in PRESETS:
        sys.exit(f"--preset of a cell is one of {', '.join(PRESETS)}. Received: {preset}")
    chosen = PRESETS[preset]
    size = given.get("batch_size", chosen.get("batch_size", 1))
    if not str(size).isdecimal() or int(size) < 1:
        sys.exit(f"--batch_size of a cell is a number from 1 on. Received: {size}")
    return int(size)


def _call(command: str, *flags: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} p2p-{command} {' '.join(flags)}", flush=True)
    done = subprocess.run([sys.executable, "-m", f"p2p_keras.cli.{command}", *flags], text=True, capture_output=True)
    if done.returncode:
        sys.exit(f"{done.stdout[-2000:]}{done.stderr[-2000:]}p2p-{command} ended with {done.returncode}")


def _seconds(workdir: Path) -> dict[int, float]:
    """Seconds of training until each step at which an epoch ended."""
    total, found = 0.0, {}
    for line in (workdir / "history.jsonl").read_text().splitlines():
        record = json.loads(line)
        total += record["secs"]
        found[record["step"]] = total
    return found


def _numbers(metrics: dict[str, float], count: int, pictures: Path) -> dict:
    fid = next(name for name in metrics if name.startswith("fid"))
    label = fid.removeprefix("fid")
    values = {name: metrics[name] for name in ("ssim", "psnr", "l1")}
    values |= {name: metrics[f"{name}{label}"] for name in ("fid", "kid")}
    images = np.stack([np.asarray(Image.open(path)) for path in sorted(pictures.rglob("*.png"))])
    if min(images.shape[1:3]) >= 64:  # smaller ones have too few frequencies
        values["checkerboard"] = checkerboard(images)
    return {"count": count, "label": label, **values}


def run_torch(arguments: argparse.Namespace, results: Results, seed: int) -> None:
    """Trains the standard PyTorch pix2pix, unless it is scored, and scores its pictures."""
    marks = sorted(map(int, arguments.images.split(",")))
    cells = {mode: f"pytorch-{mode}" for mode in ("train", "eval")}
    size = next((flag.split("=")[1] for flag in arguments.flags.split() if flag.startswith("--image_size=")), "256")
    flags = [f"--image_size={size}"]
    if all(results.has(cell, flags, seed, mark) for cell in cells.values() for mark in marks):
        return
    folder = arguments.output / "runs" / Path(arguments.data_dir).name / f"pytorch-s{seed}"
    call = [arguments.torch_python, str(ROOT / "benchmarks" / "pytorch_pix2pix.py"), f"--data_dir={arguments.data_dir}"]
    call += [
        f"--direction={arguments.direction}",
        f"--output={folder}",
        f"--images={arguments.images}",
        f"--seed={seed}",
        *flags,
    ]
    print(f"{time.strftime('%H:%M:%S')} {' '.join(call)}", flush=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PYTHONPATH": os.environ["TORCH_PYTHONPATH"]} if "TORCH_PYTHONPATH" in os.environ else {}
    subprocess.run(call, check=True, env=environment)
    secs, records = json.loads((folder / "secs.json").read_text()), []
    for mark in marks:
        for mode, cell in cells.items():
            for pictures in sorted((folder / str(mark) / mode).iterdir()):
                metrics, count = score_pictures(arguments, pictures, pictures.name, int(size))
                records.append(
                    {"cell": cell, "flags": flags, "seed": seed, "images": mark, "split": pictures.name}
                    | {"secs": secs[str(mark)], **_numbers(metrics, count, pictures)}
                )
    results.add(records)


def score_pictures(
    arguments: argparse.Namespace, pictures: Path, split: str, size: int
) -> tuple[dict[str, float], int]:
    """Scores PNG files, called as the pairs of a split, by the code of p2p-eval."""
    import tensorflow as tf

    from p2p_keras.config import TrainConfig
    from p2p_keras.evaluation import scoring
    from p2p_keras.evaluation.lanes import Lane
    from p2p_keras.evaluation.split import take_split
    from p2p_keras.metrics.inception import load_extractor
    from p2p_keras.workdir.resolve import resolve

    config = TrainConfig(data_dir=arguments.data_dir, direction=arguments.direction, image_size=size)
    config, data = resolve(config, None, arguments.output, print, needed=split)
    pairs = take_split(data.pairs, data.reading, split)
    waiting = [pictures / Path(name).with_suffix(".png").name for name in pairs.names]

    def generate(input_image: tf.Tensor) -> tf.Tensor:  # one lane: batches come in the order of the pairs
        batch = [np.asarray(Image.open(waiting.pop(0))) for _ in range(len(input_image))]
        return tf.constant(np.stack(batch), tf.float32) / 127.5 - 1.0

    lanes = [Lane(generate, load_extractor(arguments.inception, print))]
    scores = scoring.score_images(lanes, pairs, 16)
    reference = scoring.describe_reference(lanes, pairs, 16, arguments.output / f"reference-{split}-{size}.npz")
    return scoring.summarise(scores, reference, lanes[0].extractor).metrics, len(pairs.files)


if __name__ == "__main__":
    main()
