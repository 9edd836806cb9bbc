"""Small trainings that are made ill, one for each illness that p2p-doctor knows, and healthy ones, and what it says.

    python benchmarks/illnesses.py --data_dir=FACADES --output=ILL --inception=INCEPTION

FACADES holds label maps beside photos (p2p-prepare --download=facades); each run is of 64x64 pixels and a minute or two
long. The table goes to ILL/illnesses.md. Stopped, the same command goes on. --only=NAMES makes those alone.
"""

import argparse
import functools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageOps

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

SIZE, PAIRS, HELD_BACK, STEPS = 64, 360, 40, 1800
Pair = tuple[Image.Image, Image.Image]  # photo, label map


class Case(NamedTuple):
    """A run, and what should be found in it."""

    expected: str  # the name of a finding; empty for none
    flags: str
    change: Callable[[list[Pair]], list[Pair]] = lambda pairs: pairs  # of the training and held-back pairs


def _of_others(pairs: list[Pair]) -> list[Pair]:
    return [(photo, labels) for (photo, _), (_, labels) in zip(pairs, [*pairs[1:], pairs[0]], strict=True)]


def _mirrored(pairs: list[Pair]) -> list[Pair]:
    return [(photo, ImageOps.mirror(labels)) for photo, labels in pairs]


def _large(pairs: list[Pair]) -> list[Pair]:
    return [(photo.resize((2500, 2500)), labels.resize((2500, 2500))) for photo, labels in pairs[:64]]


def _night(pairs: list[Pair]) -> list[Pair]:
    """Three of four pairs in the dark."""
    dark = [i % 4 > 0 for i in range(len(pairs))]
    return [
        tuple(one.point(lambda v: v // 8) if d else one for one in pair) for d, pair in zip(dark, pairs, strict=True)
    ]


def _few(pairs: list[Pair]) -> list[Pair]:
    return pairs[:8] if len(pairs) > HELD_BACK else pairs


PAPER = f"--preset=paper --image_size={SIZE} --base_filters=8 --steps={STEPS}"
CASES = {
    "healthy": Case("", f"--image_size={SIZE} --base_filters=8 --steps={STEPS}"),
    "healthy-paper": Case("", PAPER),
    "healthy-moving": Case("", f"{PAPER} --statistics=moving"),
    "healthy-batch4": Case("", f"{PAPER} --batch_size=4"),
    "won": Case("discriminator won", f"{PAPER} --lambda_l1=10000 --steps=2800", _few),
    "gave-up": Case("discriminator gave up", f"{PAPER} --discriminator=pixel --diffaugment --steps=1440"),
    "rate": Case("learning rate too high", f"{PAPER} --learning_rate=0.05"),
    "over-fitting": Case("over-fitting", f"{PAPER} --base_filters=16", _few),
    "few-pictures": Case("few pictures for FID", f"{PAPER} --eval_every_epochs=2 --inception={{inception}}"),
    "unrelated": Case("unrelated pairs", PAPER, _of_others),
    "checkerboard": Case("checkerboard", f"{PAPER} --lambda_l1=0 --learning_rate=2e-3"),
    "statistics": Case("statistics shift", f"{PAPER} --statistics=moving", _night),
    "misaligned": Case("misaligned pairs", PAPER, _mirrored),
    "starved": Case("starved input", "--image_size=32 --base_filters=4 --steps=320 --discriminator=patch16", _large),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True, help="With train/: a photo left, its label map right.")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--inception", required=True, help="As for p2p-train.")
    parser.add_argument("--only", default=",".join(CASES), help="Names, with commas between.")
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    if unknown := set(names) - set(CASES):
        parser.error(f"there are {', '.join(CASES)}. Received: {', '.join(unknown)}")
    rows = []
    for name in names:
        case, folder = CASES[name], arguments.output / name
        make_data(case, arguments.data_dir, folder / "data")
        flags = case.flags.format(inception=arguments.inception).split()
        call("train", f"--data_dir={folder / 'data'}", f"--workdir={folder / 'run'}", "--direction=BtoA", *flags)
        call("doctor", f"--workdir={folder / 'run'}", expected=(0, 1))
        found = json.loads((folder / "run" / "doctor.json").read_text())["findings"]
        said = "; ".join(f"{finding['name']}: {finding['evidence']}" for finding in found) or "nothing"
        names_found = [finding["name"] for finding in found]
        right = case.expected in names_found if case.expected else not found
        rows.append(f"| {name} | {case.expected or 'nothing'} | {said} | {'' if right else 'not as expected'} |")
        print(rows[-1], flush=True)
    head = ["| run | made to have | said | |", "|---|---|---|---|"]
    if names == list(CASES):
        (arguments.output / "illnesses.md").write_text("\n".join([*head, *rows]) + "\n")


def make_data(case: Case, source: Path, folder: Path) -> None:
    """The pairs of a case, side by side."""
    if (folder / "val").is_dir():
        return
    files = sorted((source / "train").iterdir())[: PAIRS + HELD_BACK]
    pairs = [halves(path) for path in files]
    for split, part in (("train", pairs[:PAIRS]), ("val", pairs[PAIRS:])):
        (folder / f"{split}.part").mkdir(parents=True, exist_ok=True)
        for number, (photo, labels) in enumerate(case.change(part)):
            both = Image.new("RGB", (photo.width + labels.width, photo.height))
            both.paste(photo)
            both.paste(labels, (photo.width, 0))
            # The large ones as the camera has them: JPEG.
            both.save(folder / f"{split}.part" / f"{number:03}.{'jpg' if photo.width > SIZE else 'png'}")
        (folder / f"{split}.part").rename(folder / split)


@functools.cache
def halves(path: Path) -> Pair:
    with Image.open(path) as image:
        half = image.width // 2
        parts = (image.convert("RGB").crop((x, 0, x + half, image.height)) for x in (0, half))
        photo, labels = (part.resize((SIZE, SIZE), Image.Resampling.BICUBIC) for part in parts)
    return photo, labels


def call(command: str, *flags: str, expected: tuple[int, ...] = (0,)) -> None:
    """One of this package's commands."""
    done = subprocess.run([sys.executable, "-m", f"p2p_keras.cli.{command}", *flags], check=False, cwd=ROOT)
    if done.returncode not in expected:
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
