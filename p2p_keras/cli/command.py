"""What all commands share: flags of their own, help that reads like documentation, errors in one line."""

import atexit
import contextlib
import logging
import os
import signal
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

from absl import flags

from p2p_keras.errors import HostLostError, UserError
from p2p_keras.pretrained import locate
from p2p_keras.system.terminal import PlainStream
from p2p_keras.system.urls import refuse_url
from p2p_keras.versions import VERSION

# What flags take whose value is text, but neither a path nor a default that shows it.
_PLACEHOLDERS = {
    "splits": "TRAIN,VAL,TEST",
    "download": "NAME",
    "image_size": "SIZE",
    "inception": "default|FILE|URL",
    "pairs": "FILE",
    "part": "K/N",
    "load_size": "SIZE",
    "target_panel": "NAME",
    "checkpoint": "latest|best|STEP",
}
_MAY_BE_URLS = ("data_dir", "inception")


def run(main: Callable[[flags.FlagValues], int | None], values: flags.FlagValues, doc: str) -> None:
    """Parses the command line and runs a command; ends the process.

    Exit status: 0 done; 2 a `UserError`, printed as one line on stderr (75 if another host has gone); 128 + signal
    number if stopped by a signal.

    Args:
        main: The command; gets the parsed flags and returns an exit status (None for 0).
        values: Flags of this command alone, with their help.
        doc: What stands above the flags in `--help`.
    """
    name = os.path.basename(sys.argv[0])
    flags.DEFINE_bool("help", False, "Shows this.", short_name="h", flag_values=values)
    has_own_version = "version" in values  # p2p-export's is that of the model
    if not has_own_version:
        flags.DEFINE_bool("version", False, "Shows the version.", flag_values=values)
    # TensorFlow's own messages about CPU features and absent GPUs are not for the user. Set it to 0 to see them.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if os.environ["TF_CPP_MIN_LOG_LEVEL"] == "3":  # which its Python part does not look at
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
    # Take of a GPU's memory what is needed, so that p2p-eval runs beside p2p-train.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    # Of gs:// read what is asked for. By default every opened file begins with 64 MB of it, and each pair is opened.
    os.environ.setdefault("GCS_READ_CACHE_BLOCK_SIZE_MB", "0")
    if sys.stdout is None:  # closed by whoever started it
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, as long as the process
    sys.stdout.reconfigure(line_buffering=True)  # `p2p-train | tee log` shows each line when it is said
    sys.stdout, sys.stderr = PlainStream(sys.stdout), PlainStream(sys.stderr)
    try:
        rest = values(sys.argv)[1:]
        if values["help"].value:
            print(help_text(values, doc), flush=True)
            sys.exit(0)
        if not has_own_version and values["version"].value:
            print(f"{name} (p2p_keras) {VERSION}")
            sys.exit(0)
        if rest:
            raise UserError(f"{name} takes flags only, as in --workdir=runs/a2s. Received: {' '.join(rest)}")
        _refuse_urls(values)
        status = main(values)
        sys.stdout.flush()
        sys.exit(status)
    except (UserError, flags.Error) as error:
        text = " ".join(str(error).split())
        if isinstance(error, flags.Error):
            text = f"{text}{'' if text.endswith(('.', '?')) else '.'} See {name} --help."
        print(f"{name}: {text}", file=sys.stderr, flush=True)
        if isinstance(error, HostLostError):
            sys.stdout.flush()
            _leave(error.status)  # TensorFlow's own end would wait for the host that has gone
        sys.exit(2)
    except BrokenPipeError:  # whoever read the output has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that Python's own last flush says nothing
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:  # a full disk, a folder taken away: the system's trouble, not a bug of ours
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        print(f"{name}: {what}. What was saved before is kept; mend it, then run the same again.", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(f"\n{name}: stopped; what was saved before is kept", file=sys.stderr)
        sys.exit(130)


def run_and_leave(main: Callable[[flags.FlagValues], int | None], values: flags.FlagValues, doc: str) -> None:
    """As `run`, for commands that leave threads at work, as one on an answer that is not wanted any longer.

    None is waited for.
    """
    try:
        run(main, values, doc)
    except SystemExit as end:
        _leave(end.code or 0)


def _leave(status: int) -> None:
    """Ends the process without waiting for its threads. What is to be done at its end is done: AutoGraph's files go."""
    atexit._run_exitfuncs()
    os._exit(status)


def _refuse_urls(values: flags.FlagValues) -> None:
    for name in values:
        value = values[name].value
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and name not in _MAY_BE_URLS:
                refuse_url(f"--{name}", text)


def run_folder(name: str) -> Path:
    """The folder of a run, known by its config.json before TensorFlow is loaded.

    Raises:
        UserError: There is no run in it.
    """
    folder = Path(name.strip())
    if not (folder / "config.json").is_file():
        raise UserError(f"--workdir names the folder of a run, with its config.json. There is none in {folder}")
    return folder


def define_model(values: flags.FlagValues) -> None:
    """The flags of a command that takes what translates: `--model` and `--checkpoint`."""
    flags.DEFINE_string(
        "model",
        None,
        "A run's folder, an export's, or a .keras or .tflite file of one; or town, the generator of the demo's scenes "
        "that comes with the package.",
        flag_values=values,
    )
    flags.DEFINE_string("checkpoint", "latest", "latest, best, or a step, of a run.", flag_values=values)


def model_place(name: str | None) -> Path:
    """Where the model is that `--model` names.

    Raises:
        UserError: There is nothing, or none was given.
    """
    if not name:
        raise UserError("--model is needed, as --model=runs/a2s")
    place = locate(name)
    if not place.exists():
        raise UserError(f"--model names a run, an export, or a file of one, or is town. There is no {name}")
    return place


def counted(number: int, one: str, many: str) -> str:
    """`1 image` or `2 images`."""
    return f"{number} {one if number == 1 else many}"


@contextlib.contextmanager
def quiet_start() -> Iterator[None]:
    """Keeps TensorFlow's start from writing on stderr, which TF_CPP_MIN_LOG_LEVEL does not (its issue 100442).

    What it wrote is shown if the start fails, unless that is said in words (a `UserError`) or it was stopped, or if
    TF_CPP_MIN_LOG_LEVEL is set to less than 3.
    """
    sys.stderr.flush()
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        shown = os.environ["TF_CPP_MIN_LOG_LEVEL"] < "3"
        try:
            yield
        except BaseException as error:
            shown = shown or not isinstance(error, UserError | KeyboardInterrupt | SystemExit)
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            if shown:
                written.seek(0)
                sys.stderr.write(written.read().decode(errors="replace"))


def help_text(values: flags.FlagValues, doc: str) -> str:
    """The command's description, then every flag in the order of its definition."""
    lines = [textwrap.dedent(doc).strip(), "", "Flags:"]
    for flag in values.flags_by_module_dict().values():
        for each in flag:
            value = "" if each.flag_type() == "bool" else "=" + _placeholder(each)
            negative = "[no]" if each.flag_type() == "bool" and each.default is not False else ""
            lines.append(f"  --{negative}{each.name}{value}")
            text = each.help.split(">: ", 1)[-1] if isinstance(each, flags.EnumFlag) else each.help
            if each.default is not None and each.default is not False:  # 0 is one, and equals False
                text += f" Default: {each.default}."
            lines += textwrap.wrap(text, 92, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)


def _placeholder(flag: flags.Flag) -> str:
    if flag.name in _PLACEHOLDERS and flag.flag_type() != "int":  # as --pairs of p2p-report
        return _PLACEHOLDERS[flag.name]
    if isinstance(flag, flags.EnumFlag):
        return "|".join(flag.parser.enum_values)
    if flag.flag_type() == "string" and flag.default:
        return flag.default
    return {"int": "N", "float": "X", "comma separated list of strings": "A,B"}.get(flag.flag_type(), "PATH")
