"""p2p-import: a generator of the PyTorch version becomes a run."""

from pathlib import Path

from absl import flags

from p2p_keras.cli import command
from p2p_keras.config import DIRECTIONS, TrainConfig
from p2p_keras.data.pairs import select_panels
from p2p_keras.errors import UserError
from p2p_keras.pytorch.read import read_network

DOC = """
    p2p-import makes a run of a generator that junyanz/pytorch-CycleGAN-and-pix2pix saved: unet_256 or unet_128, batch
    or instance norm, with or without dropout. p2p-eval, p2p-translate and p2p-export take it like any other run.

      p2p-import --weights=checkpoints/facades/latest_net_G.pth --output=runs/facades --direction=BtoA
      p2p-export --workdir=runs/facades --output=models/facades            from PyTorch to TF Serving
      p2p-train --init_from=runs/facades --data_dir=DATA --direction=BtoA --workdir=runs/more      trains on

    It needs PyTorch 2.6 or newer, which reads the file without running anything that is in it.
    """

FLAGS = flags.FlagValues()

flags.DEFINE_string("weights", None, "The generator's file, as latest_net_G.pth.", flag_values=FLAGS)
flags.DEFINE_string("output", None, "The run's folder, a new one.", flag_values=FLAGS)
flags.DEFINE_enum(
    "direction",
    "AtoB",
    DIRECTIONS,
    "What it makes of what, as it was trained; p2p-eval reads pairs by it.",
    flag_values=FLAGS,
)
flags.DEFINE_list(
    "panels",
    None,
    "What the panels of its pairs show, left to right, as street,aerial. Default: two panels without names.",
    flag_values=FLAGS,
)
flags.DEFINE_enum(
    "statistics",
    "per_image",
    ("moving", "per_image"),
    "Batch normalisation: by each image's own statistics, which is what the PyTorch version's test.py does, or by the "
    "moving averages, which is test.py --eval.",
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "dropout",
    True,
    "Whether it was trained with dropout: not so with the PyTorch version's no_dropout.",
    flag_values=FLAGS,
)


def main(values: flags.FlagValues) -> int:
    """Imports; returns the exit status."""
    given = {name: values[name].value for name in values if name not in ("help", "h", "version")}
    for name, example in (("weights", "latest_net_G.pth"), ("output", "runs/imported")):
        if not given[name]:
            raise UserError(f"--{name} is needed, as --{name}={example}")
    weights, output = Path(given["weights"]), Path(given["output"])
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise UserError(f"--output must be a new folder. {output} is there already. Name another one, or remove it.")
    panels = tuple(name.strip() for name in given["panels"] or ())
    select_panels(given["direction"], panels)  # which raises if they do not go together
    network = read_network(weights)
    if network.norm == "instance" and given["statistics"] == "moving":
        raise UserError(
            f"--statistics=moving is for batch norm. {weights} has instance norm, which is by each image's own "
            "statistics. Leave it out."
        )
    for name in ("input_channels", "output_channels"):
        if getattr(network, name) > 4:
            raise UserError(
                f"Images have 1 to 4 channels. The generator of {weights} has {getattr(network, name)} {name}, so it "
                "cannot be imported."
            )
    config = TrainConfig(
        direction=given["direction"],
        panels=panels,
        image_size=2**network.halvings,
        input_channels=network.input_channels,
        output_channels=network.output_channels,
        input_bits=8,
        output_bits=8,
        base_filters=network.base_filters,
        precision="float32",
        statistics=given["statistics"],
        dropout=given["dropout"],
    )

    with command.quiet_start():
        from p2p_keras.pytorch.run import write_run

    write_run(network, config, output, weights)
    channels = f"{network.input_channels} -> {network.output_channels} channels"
    print(f"{weights}: {network.name}, {network.norm} norm, {network.base_filters} filters, {channels}")
    print(f"{output}: a run for p2p-translate, p2p-export, and p2p-eval with --data_dir")
    return 0


def entry_point() -> None:
    """`p2p-import`."""
    command.run(main, FLAGS, DOC)


if __name__ == "__main__":
    entry_point()
