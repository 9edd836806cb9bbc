"""p2p-translate: images in, images out."""

import sys
from pathlib import Path

from absl import flags

from p2p_keras.cli import command
from p2p_keras.config import DIRECTIONS
from p2p_keras.data.pairs import select_panels
from p2p_keras.errors import UserError

DOC = """
    p2p-translate translates images with a run, or with anything that p2p-export wrote.

      p2p-translate --model=runs/a2s --input=photos --output=translated
      p2p-translate --model=models/a2s --input='photos/*.jpg' --output=translated --resize
      p2p-translate --model=runs/a2s --input=city.png --output=translated --tile       an image far larger
      p2p-translate --model=runs/a2s --input=dayton/test --output=out --direction=a2s  composites: their input panel

    An image comes out in its own size, under its own name; as PNG if the model gives 16 bits, alpha or label maps.
    Bad files are named and skipped; the exit status is then 1.
    """

FLAGS = flags.FlagValues()

flags.DEFINE_string(
    "model", None, "A run's folder, an export's, or a .keras or .tflite file of one.", flag_values=FLAGS
)
flags.DEFINE_string("checkpoint", "latest", "latest, best, or a step, of a run.", flag_values=FLAGS)
flags.DEFINE_string(
    "input", None, "An image, a folder (searched recursively), or a pattern in quotes.", flag_values=FLAGS
)
flags.DEFINE_string("output", None, "Folder for the translated images.", flag_values=FLAGS)
flags.DEFINE_enum(
    "direction",
    None,
    DIRECTIONS,
    "The inputs are composites; translate the panel this begins with. With --panels alone: as trained.",
    flag_values=FLAGS,
)
flags.DEFINE_list(
    "panels", None, "What the composites show, left to right. Default: as the model was trained.", flag_values=FLAGS
)
flags.DEFINE_bool(
    "resize", False, "Resize to the size trained on first, as training and p2p-eval do.", flag_values=FLAGS
)
flags.DEFINE_bool(
    "tile", False, "Translate in overlapping tiles of the size trained on: for images far larger.", flag_values=FLAGS
)
flags.DEFINE_integer(
    "samples",
    0,
    "Number of noise samples drawn for each image, with their standard deviation as one more image, 4 times as bright "
    "so that it can be seen; of label maps the share of samples that differ from the most frequent class.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "format",
    None,
    ("png", "jpg"),
    "Format of what is written. Default: the source's, or png where a JPEG could not hold it.",
    flag_values=FLAGS,
)
flags.DEFINE_bool("overwrite", False, "Replace images that are there already.", flag_values=FLAGS)
flags.DEFINE_integer("batch_size", 16, "Images of the size trained on at a time.", flag_values=FLAGS)


def main(values: flags.FlagValues) -> int:
    """Translates; returns the exit status."""
    given = {name: values[name].value for name in values if name not in ("help", "h", "version")}
    for name, example in (("model", "runs/a2s"), ("input", "photos"), ("output", "translated")):
        if not given[name]:
            raise UserError(f"--{name} is needed, as --{name}={example}")
    for name, least in (("samples", 0), ("batch_size", 1)):
        if given[name] < least:
            raise UserError(f"--{name} must be at least {least}. Received: {given[name]}")
    if not Path(given["model"]).exists():
        raise UserError(f"--model names a run, an export, or a file of one. There is no {given['model']}")

    with command.quiet_start():
        from p2p_keras import translate
        from p2p_keras.export.open import open_model

    images = translate.find_images(given["input"])
    model = open_model(Path(given["model"]), given["checkpoint"])
    panel = None
    if given["direction"] or given["panels"]:
        panels = tuple(name.strip() for name in given["panels"] or ()) or model.panels
        panel = (select_panels(given["direction"] or model.direction, panels)[0], len(panels) or 2)
    job = translate.Job(
        panel=panel,
        resize=given["resize"],
        tile=given["tile"],
        samples=given["samples"],
        suffix=f".{given['format']}" if given["format"] else "",
        overwrite=given["overwrite"],
        batch_size=given["batch_size"],
    )
    outcome = translate.translate_images(
        model, images, Path(given["output"]), job, lambda line: print(line, file=sys.stderr)
    )
    print(f"{command.counted(outcome.written, 'image', 'images')} translated to {given['output']}")
    if outcome.kept:
        kept = command.counted(
            outcome.kept, "was there already and is as it was", "were there already and are as they were"
        )
        print(f"{kept}; --overwrite replaces {'it' if outcome.kept == 1 else 'them'}")
    if outcome.other_sizes and not given["tile"]:
        size, them = model.image_size, "it" if outcome.other_sizes == 1 else "them"
        others = command.counted(outcome.other_sizes, "was", "were")
        print(f"{others} not {size}x{size}, the size trained on; --resize brings {them} there")
    if outcome.bad:
        skipped = "could not be read and {} skipped"
        print(command.counted(len(outcome.bad), skipped.format("was"), skipped.format("were")), file=sys.stderr)
    return 1 if outcome.bad else 0


def entry_point() -> None:
    """`p2p-translate`."""
    command.run(main, FLAGS, DOC)


if __name__ == "__main__":
    entry_point()
