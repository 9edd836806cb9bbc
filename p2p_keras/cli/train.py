"""p2p-train: trains pix2pix on pairs of pictures."""

from pathlib import Path

from absl import flags

from p2p_keras.cli import command
from p2p_keras.config import BEST_METRICS, DIRECTIONS, DISCRIMINATORS, PRECISIONS
from p2p_keras.presets import DEMO, PRESETS, make_config
from p2p_keras.workdir.folder import saved_run

DOC = """
    p2p-train trains pix2pix: one network that translates pictures, another that judges them.

      p2p-train --direction=a2s --batch_size=24                      the demo, a drawn town: aerial -> street
      p2p-train --data_dir=DATA --direction=AtoB                     your own pairs, side by side in one file each
      p2p-train --data_dir=DAYTON --panels=street,aerial --preset=experiment3

    DATA holds train/ and optionally val/ and test/, of JPEG or PNG files with two or more equal panels side by side.
    The same command in the same --workdir continues where the run stopped, however it stopped; so does
    p2p-train --workdir=RUN alone. Ctrl-C and SIGTERM save and stop.
    """

FLAGS = flags.FlagValues()

flags.DEFINE_string(
    "data_dir", None, "Folder with train/, optional val/ and test/. Without it: the embedded demo.", flag_values=FLAGS
)
flags.DEFINE_string(
    "workdir",
    None,
    "The run's folder: settings, checkpoints, pictures, curves. Default runs/<direction>.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "direction",
    None,
    DIRECTIONS,
    "What becomes what: a2s aerial to street, s2a street to aerial, both by panel name; AtoB, BtoA the first two "
    "panels by position. Default a2s.",
    flag_values=FLAGS,
)
flags.DEFINE_list(
    "panels",
    None,
    "What the panels of a file show, left to right, as street,aerial. Default: what dataset.json in the data set says, "
    "else two panels without names.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "batch_size",
    None,
    f"Pairs per step, over all devices together. Default 1 (the paper's); the demo's is {DEMO['batch_size']}.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "epochs",
    None,
    f"Passes over the training pairs. Default 200 (the paper's); the demo's is {DEMO['epochs']}.",
    flag_values=FLAGS,
)
flags.DEFINE_integer("steps", None, "Length in steps, instead of --epochs.", flag_values=FLAGS)
flags.DEFINE_integer(
    "image_size",
    None,
    "Height and width the networks see: 32, 64, 128, 256 or 512. Default: the data set's own (dataset.json), else 256; "
    f"the demo's is {DEMO['image_size']}.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "input_channels",
    None,
    "Of the input pictures: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA; files with others are converted. Whether they "
    "have 8 or 16 bits is seen from the first one. Default: the data set's own (dataset.json), else 3.",
    flag_values=FLAGS,
)
flags.DEFINE_integer("output_channels", None, "The same of the target pictures.", flag_values=FLAGS)
flags.DEFINE_integer(
    "labels",
    None,
    "The input is a label map of so many classes: an indexed or grey PNG whose numbers are 0 to N - 1. The networks "
    "see a channel for each class. Default 0: a picture.",
    flag_values=FLAGS,
)
flags.DEFINE_integer("output_labels", None, "The same of the target.", flag_values=FLAGS)
flags.DEFINE_float(
    "learning_rate",
    None,
    f"Adam's, for both networks. Default 2e-4 (the paper's); the demo's is {DEMO['learning_rate']}.",
    flag_values=FLAGS,
)
flags.DEFINE_float("beta1", None, "Adam's first-moment decay. Default 0.5 (the paper's).", flag_values=FLAGS)
flags.DEFINE_float("lambda_l1", None, "Weight of the L1 loss. Default 100 (the paper's).", flag_values=FLAGS)
flags.DEFINE_integer(
    "decay_epochs",
    None,
    "Over so many last epochs the learning rate falls to 0. Default 0: constant; the demo's is half of its epochs.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "discriminator",
    None,
    DISCRIMINATORS,
    "How large a patch the discriminator judges: 70, 16, 1 or 286 pixels; compact is the report's small one. "
    f"Default patch70 (the paper's); the demo's is {DEMO['discriminator']}.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "base_filters",
    None,
    f"Channels of each network's first layer. Default 64 (the paper's); the demo's is {DEMO['base_filters']}.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "precision",
    None,
    PRECISIONS,
    "Numbers the networks compute with. Default auto: bfloat16 where the device is fast at it, else float32.",
    flag_values=FLAGS,
)
flags.DEFINE_integer("seed", None, "Of weights, order, jitter and noise. Default 0.", flag_values=FLAGS)
flags.DEFINE_integer("checkpoint_every_steps", None, "Steps between checkpoints. Default 500.", flag_values=FLAGS)
flags.DEFINE_integer("keep_checkpoints", None, "Newest checkpoints kept; 0 keeps all. Default 3.", flag_values=FLAGS)
flags.DEFINE_integer("samples_every_epochs", None, "Epochs between sample pictures. Default 1.", flag_values=FLAGS)
flags.DEFINE_integer(
    "max_bad_files",
    None,
    "Unreadable files that are listed and left out; with more, nothing starts. Default 0.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "eval_every_epochs",
    None,
    "Epochs between evaluations on val/, which keep the best checkpoint apart. Default 0: never.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "inception",
    None,
    "Also FID, KID and Inception Score in those evaluations: default (downloaded once), or a network as for p2p-eval.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "best_metric",
    None,
    BEST_METRICS,
    "What the best checkpoint is best at. Default l1, with --inception kid. Of label maps l1, pixel_accuracy or "
    "mean_iou, of pictures any other.",
    flag_values=FLAGS,
)
flags.DEFINE_integer(
    "patience", None, "Ends the run after so many evaluations without improvement. Default 0: never.", flag_values=FLAGS
)
flags.DEFINE_enum(
    "preset",
    None,
    tuple(PRESETS),
    "The report's experiments: direction, batch size, learning rate 2e-3, epochs. Other flags override it.",
    flag_values=FLAGS,
)


def main(values: flags.FlagValues) -> int:
    """Trains; returns the exit status."""
    given = {name: values[name].value for name in values if name not in ("help", "h", "version")}
    workdir, preset = given.pop("workdir"), given.pop("preset")
    given["panels"] = tuple(name.strip() for name in given["panels"]) if given["panels"] else None
    if workdir is None:
        workdir = f"runs/{make_config(preset, **given).direction}"
    saved, _ = saved_run(Path(workdir)) or (None, None)
    config = make_config(preset, saved, **given)

    with command.quiet_start():  # and here, so that --help and a typo don't wait for TensorFlow
        from p2p_keras.system.devices import make_strategy
        from p2p_keras.training.run import train

        strategy = make_strategy()

    stopped_by = train(config, Path(workdir), strategy)
    return 128 + stopped_by if stopped_by else 0


def entry_point() -> None:
    """`p2p-train`."""
    command.run(main, FLAGS, DOC)


if __name__ == "__main__":
    entry_point()
