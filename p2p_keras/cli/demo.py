"""p2p-demo: a page on which a model is tried."""

import os
import signal
import sys
import tempfile

from absl import flags

from p2p_keras.cli import command
from p2p_keras.demo.listen import listen
from p2p_keras.errors import UserError

DOC = """
    p2p-demo shows a page on this machine, on which a model is tried: drop a picture, take one with the camera or paint
    one, and see what becomes of it.

      p2p-demo --model=runs/a2s
      p2p-demo --model=models/facades --examples=my/labels
      p2p-demo --model=town                                  comes with the package

    It needs gradio: pip install -e ".[demo]". Nothing is sent to other hosts, and nobody else can open the page unless
    --host says so.
    """

FLAGS = flags.FlagValues()

command.define_model(FLAGS)
flags.DEFINE_string(
    "examples",
    None,
    "A folder of input pictures to begin with, or a pattern in quotes; of a model with --input_panels one for each, "
    "with commas between. Default: the first validation inputs of the data that it was trained on, if they are there.",
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "tile",
    None,
    "Have the box for tiles ticked at first. Default: if the model was trained with --crops=native.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "host", "127.0.0.1", "Address to listen on; 0.0.0.0 lets everyone in who reaches this machine.", flag_values=FLAGS
)
flags.DEFINE_integer("port", 7860, "Port to listen on; 0 takes any that is free.", flag_values=FLAGS)


def main(values: flags.FlagValues) -> None:
    """Shows the page until it is stopped."""
    given = {name: values[name].value for name in values if name not in ("help", "h", "version")}
    place = command.model_place(given["model"])
    if not 0 <= given["port"] < 2**16:
        raise UserError(f"--port must be from 0 to 65535. Received: {given['port']}")

    def complain(line: str) -> None:
        print(line, file=sys.stderr)

    for number in (signal.SIGTERM, signal.SIGHUP):  # so that the folder is removed
        if signal.getsignal(number) != signal.SIG_IGN:  # as by nohup
            signal.signal(number, lambda number, frame: sys.exit(128 + number))
    with listen(given["host"], given["port"]) as listening, tempfile.TemporaryDirectory(prefix="p2p-demo-") as scratch:
        os.environ["GRADIO_TEMP_DIR"] = tempfile.tempdir = scratch  # which gradio looks at when it is loaded
        with command.quiet_start():
            from p2p_keras.demo import examples, page
            from p2p_keras.export.open import open_model
        model = open_model(place, given["checkpoint"], complain)
        if given["examples"]:
            patterns = given["examples"].split(",") if model.config.input_panels else [given["examples"]]
            offered = examples.from_folders([pattern.strip() for pattern in patterns], model.config, complain)
        else:
            offered = examples.from_run(model.config)
        title = page.describe(model, given["model"])
        try:
            page.serve(page.make_page(model, title, offered, given["tile"]), listening)
        except KeyboardInterrupt:  # as it says, this ends it
            print()


def entry_point() -> None:
    """`p2p-demo`."""
    command.run_and_leave(main, FLAGS, DOC)


if __name__ == "__main__":
    entry_point()
