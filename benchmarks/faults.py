"""What is lost where a command is killed, or its disk fails: the tables of docs/faults.md.

    python benchmarks/faults.py                        # kills at every boundary of every command: an hour or two
    python benchmarks/faults.py --scene=p2p-export     # of one
    python benchmarks/faults.py --every=9              # at every ninth
    python benchmarks/faults.py --faults               # full and failing disks instead

A boundary is a call by which the command changes a file below its folder, Python's and TensorFlow's, before it and
with half of a write done; of a row of writes to one file the first, the middle and the last. Each kill is followed by
the same command, and the folder compared with that of a command that nothing stopped. It needs Linux and gcc.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from faults.errors import FAULTS, befall  # noqa: E402, found by the lines above
from faults.kills import Stage, kill_at_each  # noqa: E402
from faults.scenes import SCENES  # noqa: E402
from faults.server import Server  # noqa: E402

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--scene", default="", help="only those whose name begins so")
parser.add_argument("--every", type=int, default=1, help="kill at every so-manyth boundary")
parser.add_argument("--faults", action="store_true", help="the table of faults instead of that of kills")
parser.add_argument("--verbose", action="store_true", help="a line for each kill")
arguments = parser.parse_args()


def say(line: str) -> None:
    if arguments.verbose:
        print(f"  {line}", flush=True)


scenes = [scene for scene in SCENES if scene.name.startswith(arguments.scene)]
if not scenes:
    parser.error(f"--scene is the beginning of one of: {', '.join(scene.name for scene in SCENES)}")
print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}\n")
header = (
    ("fault", "command", "status", "what it said", "lost", "the same command again")
    if arguments.faults
    else ("command", "boundaries", "kills", "losses", "ends that differ", "minutes")
)
print("| " + " | ".join(header) + " |\n|" + "---|" * len(header), flush=True)
bad = 0
with Server() as server, tempfile.TemporaryDirectory() as folder:
    for number, scene in enumerate(scenes):
        started = time.monotonic()
        stage = Stage(server, scene, Path(folder).resolve() / str(number))
        if arguments.faults:
            for fault in FAULTS:
                row = befall(stage, fault)
                if row:
                    bad += row.is_bad
                    print("| " + " | ".join(row.cells) + " |", flush=True)
                    for line in row.problems:
                        print(f"  {line}", file=sys.stderr, flush=True)
            continue
        tally = kill_at_each(stage, arguments.every, on_trial=say)
        bad += len(tally.lost) + len(tally.wrong)
        minutes = (time.monotonic() - started) / 60
        numbers = (tally.boundaries, tally.kills, len(tally.lost), len(tally.wrong), f"{minutes:.1f}")
        print("| " + " | ".join([scene.name, *map(str, numbers)]) + " |", flush=True)
        for line in tally.lost + tally.wrong:
            print(f"  {line}", file=sys.stderr)
sys.exit(1 if bad else 0)
