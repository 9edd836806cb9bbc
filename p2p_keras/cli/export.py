"""p2p-export: the model out of the trainer."""

from functools import partial
from pathlib import Path

from absl import flags

from p2p_keras.cli import command
from p2p_keras.errors import UserError

DOC = """
    p2p-export writes a run's generator for use elsewhere.

      p2p-export --workdir=runs/a2s --output=models/a2s                  a SavedModel for TF Serving: models/a2s/1
      p2p-export --workdir=runs/a2s --output=models/a2s --format=tflite  TFLite, float32 and 8-bit: models/a2s/tflite/1
      p2p-export --workdir=runs/a2s --output=models/a2s --format=keras   models/a2s/keras/1/model.keras

    Each call writes a new version; an existing one is never overwritten. Beside the model lies metadata.json.
    """

FLAGS = flags.FlagValues()

flags.DEFINE_string("workdir", None, "The run's folder.", flag_values=FLAGS)
flags.DEFINE_string("output", None, "The folder of the versions, as models/a2s.", flag_values=FLAGS)
flags.DEFINE_string(
    "checkpoint", None, "latest, best, or a step. Default: best, if the run keeps one, else latest.", flag_values=FLAGS
)
flags.DEFINE_integer("version", None, "Number of the version. Default: the next free one.", flag_values=FLAGS)
flags.DEFINE_enum(
    "format",
    "savedmodel",
    ("savedmodel", "keras", "tflite"),
    "What is written; TF Serving loads a savedmodel.",
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "noise",
    False,
    "Of a run with --dropout: the SavedModel draws its noise from a seed, which each request gives.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "precision",
    "float32",
    ("float32", "bfloat16"),
    "Numbers the SavedModel computes with; every server is good at float32.",
    flag_values=FLAGS,
)


def main(values: flags.FlagValues) -> int:
    """Exports; returns the exit status."""
    given = {name: values[name].value for name in values if name not in ("help", "h")}
    for name, example in (("workdir", "runs/a2s"), ("output", "models/a2s")):
        if not given[name]:
            raise UserError(f"--{name} is needed, as --{name}={example}")
    if given["version"] is not None and given["version"] < 1:
        raise UserError(f"--version must be at least 1. Received: {given['version']}")
    if given["format"] != "savedmodel" and (given["noise"] or given["precision"] != "float32"):
        raise UserError(f"--noise and --precision are for --format=savedmodel. Received --format={given['format']}")
    workdir, output = command.run_folder(given["workdir"]), Path(given["output"])

    with command.quiet_start():
        from p2p_keras.export import publication, write
        from p2p_keras.export.open import check_export
        from p2p_keras.workdir.checkpoints import best_of, list_steps

    has_best = bool(list_steps(best_of(workdir / "checkpoints")))
    which = given["checkpoint"] or ("best" if has_best else "latest")
    trained = write.load_trained(workdir, which, given["precision"])
    if given["noise"] and not trained.config.dropout:
        raise UserError(f"--noise is of runs with --dropout. The run in {workdir} was trained without.")
    if given["format"] == "savedmodel":
        fill = partial(write.write_saved_model, trained, noise=given["noise"])
    elif given["format"] == "keras":
        fill, output = partial(write.write_keras, trained), output / "keras"
    else:
        fill, output = partial(write.write_tflite, trained), output / "tflite"
    differences = {}

    def check(written: Path) -> None:
        for path in sorted(written.glob("model*.*")) or [written]:
            exact = given["precision"] == "float32" and "int8" not in path.name
            differences[path.name if path != written else ""] = check_export(path, trained, exact)

    folder = publication.publish(trained, output, fill, given["version"], check, given["noise"])
    kept = "" if given["checkpoint"] or not has_best else ", the best one (--checkpoint=latest for the newest)"
    print(f"Step {trained.step} of {workdir}{kept}: {folder}")
    for name, difference in differences.items():
        off = f"{difference:.3g} pixels in 100" if trained.config.output_labels else f"{difference:.3g} of 255 levels"
        start = f"{name}: reloaded" if name else "Reloaded"
        print(f"{start}, it reproduces the trainer's image to within {off}")
    return 0


def entry_point() -> None:
    """`p2p-export`."""
    command.run(main, FLAGS, DOC)


if __name__ == "__main__":
    entry_point()
