"""Makes the generator that comes with the package, `--model=town`: draws scenes, trains, scores, exports.

    python benchmarks/town.py --output=TOWN --inception=INCEPTION

Everything is in TOWN; stopped, the same command goes on. At the end TOWN/export is an export in bfloat16 with
scores.json beside it: what p2p-eval says of 500 scenes that were not trained on, and how it was made. With --install it
replaces p2p_keras/pretrained/town. `--epochs` and `--scenes` make another one, for trying out.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from p2p_keras.data.town import ensure_town  # noqa: E402, found by the line above
from p2p_keras.system.devices import describe_devices  # noqa: E402
from p2p_keras.system.sealed import seal, unseal  # noqa: E402

LARGEST = 8 * 2**20  # bytes of what comes with the package
SIZE, SCENES, EPOCHS = 128, 36000, 8
FLAGS = (
    "--direction=a2s --base_filters=16 --batch_size=8 --learning_rate=4e-4 --upsampling=resize "
    "--ema_decay=0.999 --nojitter --nodropout --nodiffaugment --discriminator=patch16"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--inception", required=True, help="As for p2p-eval.")
    parser.add_argument("--scenes", type=int, default=SCENES)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--install", action="store_true", help="Replace the one in the package.")
    arguments = parser.parse_args()
    counts = {"train": arguments.scenes, "val": 60, "test": 500}
    data = ensure_town(arguments.output / "scenes", SIZE, counts=counts, on_progress=show)
    run, export = arguments.output / "run", arguments.output / "export"
    flags = [*FLAGS.split(), f"--epochs={arguments.epochs}", f"--decay_epochs={arguments.epochs // 2}"]
    call("train", f"--data_dir={data}", f"--workdir={run}", "--samples_every_epochs=1", *flags)
    call("eval", f"--workdir={run}", f"--inception={arguments.inception}")
    shutil.rmtree(export, ignore_errors=True)
    call("export", f"--workdir={run}", f"--output={export}", "--precision=bfloat16")
    size = sum(path.stat().st_size for path in export.rglob("*") if path.is_file())
    if size > LARGEST:
        sys.exit(f"The export is {size / 2**20:.1f} MiB, and at most {LARGEST / 2**20:.0f} come with the package.")
    record = json.loads((run / "eval" / "test" / "metrics.json").read_text())["records"][-1]
    lines = (run / "history.jsonl").read_text().splitlines()
    made_by = [f"--scenes={arguments.scenes}", f"--epochs={arguments.epochs}"]
    scores = {
        "made by": " ".join(["python benchmarks/town.py --output=TOWN --inception=INCEPTION", *made_by]),
        "flags": " ".join(flags),
        "training": f"{sum(json.loads(line)['secs'] for line in lines) / 60:.0f} min on {describe_devices()[0]}",
        "of": f"{record['count']} scenes that were not trained on",
        "metrics": record["metrics"],
        "extractor": {name: value for name, value in record["extractor"].items() if name != "source"},
    }
    forget_places(export / "1" / "metadata.json")
    (export / "scores.json").write_text(json.dumps(scores, indent=2) + "\n")
    print(json.dumps(scores, indent=2), f"\n{export}: {size / 2**20:.1f} MiB")
    if arguments.install:
        target = ROOT / "p2p_keras" / "pretrained" / "town"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(export, target, ignore=shutil.ignore_patterns("assets.extra"))  # which is for TF Serving


def forget_places(metadata: Path) -> None:
    """Takes this machine's folders out of what an export says of its run."""
    record = unseal(json.loads(metadata.read_text()))
    record["config"]["data_dir"] = None
    for evaluation in record["evaluations"]:
        evaluation["extractor"]["source"] = Path(evaluation["extractor"]["source"]).name
    metadata.write_text(json.dumps(seal(record), indent=2) + "\n")


def call(command: str, *flags: str) -> None:
    """One of this package's commands."""
    subprocess.run([sys.executable, "-m", f"p2p_keras.cli.{command}", *flags], check=True, cwd=ROOT)


def show(done: int, total: int) -> None:
    """How far the drawing is."""
    if done % 1000 == 0:
        print(f"{done} of {total} scenes drawn", flush=True)


if __name__ == "__main__":
    main()
