"""p2p-report: a run, or two side by side, as one page of HTML."""

import os
from pathlib import Path

from absl import flags

from p2p_keras.cli import command
from p2p_keras.data.pairs import SPLITS
from p2p_keras.errors import UserError
from p2p_keras.system.files import write_whole
from p2p_keras.system.urls import store_errors_in_words, to_folder

DOC = """
    p2p-report writes what is known of a run as one HTML file that needs nothing else, and no network: summary, curves,
    samples over the epochs, pairs with their scores, what p2p-doctor found, settings, how to repeat it.

      p2p-report --workdir=runs/a2s                    runs/a2s/report.html
      p2p-report --workdir=runs/a2s,runs/other         two runs side by side
      p2p-report --workdir=runs/a2s --follow           serves the page of a run in training, which refreshes itself

    The pictures in it are of the run's data set. Who may not see those should not get the page.
    """

FLAGS = flags.FlagValues()

_MOST_PAIRS = 500  # of which the page stays usable, and their pictures fit into memory

flags.DEFINE_list("workdir", None, "The run's folder, or two with a comma between.", flag_values=FLAGS)
flags.DEFINE_string("output", None, "The HTML file. Default: report.html in the first run's folder.", flag_values=FLAGS)
flags.DEFINE_integer(
    "pairs", 100, f"Pairs that are translated and shown, spread evenly; at most {_MOST_PAIRS}.", flag_values=FLAGS
)
flags.DEFINE_enum("split", None, SPLITS, "Which pairs. Default: val, without it test, else train.", flag_values=FLAGS)
flags.DEFINE_string("checkpoint", "latest", "latest, best, or a step; snapshots count.", flag_values=FLAGS)
flags.DEFINE_string("data_dir", None, "Where the run's data set lies now. Default: the run's.", flag_values=FLAGS)
flags.DEFINE_bool("follow", False, "Serve the page on 127.0.0.1 instead, until Ctrl-C.", flag_values=FLAGS)
flags.DEFINE_integer("port", 8765, "Of --follow; 0 takes a free one.", flag_values=FLAGS)


def main(values: flags.FlagValues) -> int:
    """Reports; returns the exit status."""
    given = {name: values[name].value for name in values if name not in ("help", "h", "version")}
    workdirs = _check(given)
    output = Path(given["output"]) if given["output"] else workdirs[0] / "report.html"

    with command.quiet_start():
        from p2p_keras.report.follow import make_server
        from p2p_keras.report.run import make_reporter, state_of

    data_dir = to_folder(given["data_dir"]) if given["data_dir"] else None
    chosen = (given["checkpoint"], given["split"], given["pairs"], data_dir)
    with store_errors_in_words():
        make = make_reporter(workdirs, *chosen)
        if not given["follow"]:
            page = make("")
            write_whole(output, page)
            print(f"Report: {output} ({len(page) / 1e6:.1f} MB)")
            return 0
        with make_server(given["port"], lambda: state_of(workdirs), make) as server:
            print(f"http://127.0.0.1:{server.server_port}/ (Ctrl-C ends it)")
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                print()
    return 0


def _check(given: dict) -> list[Path]:
    """The folders, if all flags can be followed."""
    names = given["workdir"]
    if not names or len(names) > 2:
        raise UserError(f"--workdir names the folder of a run, or of two. Received: {','.join(names or []) or 'none'}")
    if not 0 <= given["pairs"] <= _MOST_PAIRS:
        raise UserError(f"--pairs is a number from 0 to {_MOST_PAIRS}. Received: {given['pairs']}")
    which = given["checkpoint"]
    if which not in ("latest", "best") and not (which.isascii() and which.isdecimal()):
        raise UserError(f"--checkpoint is latest, best, or a step: the page shows pairs of one. Received: {which}")
    if not 0 <= given["port"] < 65536:
        raise UserError(f"--port is a number from 0 to 65535. Received: {given['port']}")
    if given["follow"] and given["output"]:
        raise UserError("--follow serves the page, and writes none. Leave --output out, or --follow.")
    workdirs = [command.run_folder(name) for name in names]
    output = given["output"]
    if output and Path(output).suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--output is the name of the page, as report.html. Received: {output}")
    if output and not Path(output).parent.is_dir():
        raise UserError(f"--output lies in a folder that is there. There is none named {Path(output).parent}")
    folder = Path(output).parent if output else workdirs[0]
    if not given["follow"] and not os.access(folder, os.W_OK):
        raise UserError(f"The page is a file, and {folder} cannot be written to. Say where else: --output=report.html")
    return workdirs


def entry_point() -> None:
    """`p2p-report`."""
    command.run_and_leave(main, FLAGS, DOC)


if __name__ == "__main__":
    entry_point()
