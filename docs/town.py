"""Draws what the generator that comes with the package, `--model=town`, makes of the demo's validation scenes.

    python docs/town.py --output=docs/town.png

Input, target, generated, at 128x128. The scenes are those of the demo's sample grids, from the first row on, and the
generator has not seen them.
"""

import argparse
import os
from pathlib import Path

import p2p_keras
from p2p_keras.cli.command import quiet_start
from p2p_keras.data.town import COUNTS, draw_scene
from p2p_keras.images.files import write_png
from p2p_keras.images.sheets import grid

SIZE, ROWS = 128, 6  # a grid of samples has as many rows


def main() -> None:
    """Draws the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="A PNG file.")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet_start():
        translate = p2p_keras.load("town")
    scenes = [draw_scene(0, "val", row * COUNTS["val"] // ROWS, SIZE) for row in range(ROWS)]
    rows = [[aerial, street, translate(aerial)] for aerial, street in scenes]
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    write_png(arguments.output, grid(rows, ["input", "target", "generated"]))


if __name__ == "__main__":
    main()
