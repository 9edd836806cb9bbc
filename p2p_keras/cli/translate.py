"""p2p-translate: images in, images out."""

import sys
from pathlib import Path

from absl import flags

from p2p_keras.cli import command
from p2p_keras.config import DIRECTIONS, TrainConfig
from p2p_keras.data.pairs import select_panels
from p2p_keras.errors import UserError

DOC = """
    p2p-translate translates images with a run, or with anything that p2p-export wrote.

      p2p-translate --model=runs/a2s --input=photos --output=translated
      p2p-translate --model=models/a2s --input='photos/*.jpg' --output=translated
      p2p-translate --model=runs/a2s --input=city.png --output=translated --tile       in the image's own resolution
      p2p-translate --model=town --input=aerial.png --output=translated                comes with the package
      p2p-translate --model=runs/a2s --input=dayton/test --output=out --direction=a2s  composites: their input panel
      p2p-translate --model=runs/two --input=aerial,street_seg --output=out            a folder for each --input_panels

    An image comes out in its own size, under its own name; as PNG if the model gives 16 bits, alpha or label maps. It
    is translated at the scale that the model was trained at: resized, and the result resized back, or, after training
    with --crops=native, in overlapping tiles in its own resolution.
    Bad files are named and skipped; the exit status is then 1.
    """

FLAGS = flags.FlagValues()

command.define_model(FLAGS)
flags.DEFINE_string(
    "input",
    None,
    "An image, a folder (searched recursively), or a pattern in quotes. Of a model with --input_panels: one for each "
    "with commas between, in their order, whose images go together by name; or one, of composites (with a single input "
    "panel only if --panels is given).",
    flag_values=FLAGS,
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
    "tile",
    None,
    "Translate in overlapping tiles of the size trained on, in the image's own resolution. Default: if the model was "
    "trained with --crops=native.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "samples",
    0,
    "Of a run with --dropout: number of noise samples drawn for each image, with their standard deviation as one more "
    "image, 4 times as bright so that it can be seen; of label maps the share of samples that differ from the most "
    "frequent class.",
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
    place = command.model_place(given["model"])

    with command.quiet_start():
        from p2p_keras import translate
        from p2p_keras.export.open import open_model

    def complain(line: str) -> None:
        print(line, file=sys.stderr)

    model = open_model(place, given["checkpoint"])
    patterns = given["input"].split(",") if model.config.input_panels else [given["input"]]
    images = translate.find_sources([pattern.strip() for pattern in patterns], complain)
    job = translate.Job(
        panels=_panels(given, len(patterns), model.config),
        tile=model.contract.native if given["tile"] is None else given["tile"],
        samples=given["samples"],
        suffix=f".{given['format']}" if given["format"] else "",
        overwrite=given["overwrite"],
        batch_size=given["batch_size"],
    )
    outcome = translate.translate_images(model, images, Path(given["output"]), job, complain)
    print(f"{command.counted(outcome.written, 'image', 'images')} translated to {given['output']}")
    if outcome.kept:
        kept = command.counted(outcome.kept, "existed and was kept", "existed and were kept")
        print(f"{kept}; --overwrite replaces {'it' if outcome.kept == 1 else 'them'}")
    if outcome.other_sizes:
        others = command.counted(outcome.other_sizes, "was resized", "were resized")
        print(f"{others} to {model.contract.image_size}, as in training, and back; --tile keeps the own resolution")
    if outcome.bad:
        skipped = "could not be read and {} skipped"
        print(command.counted(len(outcome.bad), skipped.format("was"), skipped.format("were")), file=sys.stderr)
    return 1 if outcome.bad else 0


def _panels(given: dict, count: int, config: TrainConfig) -> tuple[tuple[int, ...], int] | None:
    """Which of how many panels of composites are the inputs; None if the inputs are no composites."""
    named = config.input_panels
    if named and given["direction"]:
        raise UserError(f"This model's inputs are panels by name, {', '.join(named)}: leave --direction out.")
    if count > 1:
        if count != len(named):
            raise UserError(f"This model takes {len(named)} inputs, {', '.join(named)}. Received {count} with --input.")
        return None
    panels = tuple(name.strip() for name in given["panels"] or ()) or config.panels
    if named and (len(named) > 1 or given["panels"]):
        if not set(named) <= set(panels):
            raise UserError(f"--panels must name the inputs {', '.join(named)}. Received: {','.join(panels)}")
        return tuple(map(panels.index, named)), len(panels)
    if given["direction"] or given["panels"]:
        return (select_panels(given["direction"] or config.direction, panels)[0],), len(panels) or 2
    return None


def entry_point() -> None:
    """`p2p-translate`."""
    command.run(main, FLAGS, DOC)


if __name__ == "__main__":
    entry_point()
