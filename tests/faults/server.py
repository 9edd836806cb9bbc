"""Runs commands again and again in children of one process that has loaded TensorFlow, each with a fault of its own.

A command's start takes seconds, most of it TensorFlow's. Here a process imports all that the commands need, computes
nothing, and forks for each of them. `calls.c`, which it was started with, kills the child or fails one of its calls.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
COUNT, KILL, FAIL, FAIL_FROM = range(4)
TRIAL_SECS = 300  # more than any trial takes, however busy the machine


class Fault(NamedTuple):
    """What befalls a command: nothing, by default.

    Attributes:
        what: COUNT lists the calls; KILL kills before the call `at`, FAIL fails it alone, FAIL_FROM it and all later.
        at: Number of a call, from 1.
        error: The errno of failed calls.
        only: Names of the calls that count, as in `calls.c`; none for all that change files.
        clock: Seconds by which the clock is wrong.
        file_bytes: Largest size of a file (RLIMIT_FSIZE); 0 for any.
    """

    what: int = COUNT
    at: int = 0
    error: int = 0
    only: tuple[str, ...] = ()
    clock: int = 0
    file_bytes: int = 0


class Result(NamedTuple):
    """How a command ended."""

    status: int  # exit status, or -9 if it was killed
    out: str
    err: str
    calls: list[str]  # "NAME PATH": with COUNT all, else those that were hit; the path as it is below the folder


def build(folder: Path) -> Path:
    """Compiles `calls.c`.

    Raises:
        OSError, subprocess.CalledProcessError: There is no C compiler, or not on Linux.
    """
    library = folder / "calls.so"
    command = ["gcc", "-O1", "-shared", "-fPIC", "-o", str(library), str(HERE / "calls.c"), "-ldl", "-lpthread"]
    subprocess.run(command, check=True, capture_output=True)
    return library


class Server:
    """The process that forks. As a context manager it ends with it.

    Args:
        with_tensorflow: Load it and the commands that need it; without, p2p-prepare alone can be run.
    """

    def __init__(self, with_tensorflow: bool = True) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="p2p-faults-")
        self._scratch = Path(self._folder.name).resolve()
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        # One thread for each kind of work: trials are many and small, and so their numbers are the same each time.
        threads = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}
        env = {**os.environ, **threads, "PYTHONPATH": path, "LD_PRELOAD": str(build(self._scratch))}
        env |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        command = [sys.executable, str(HERE / "server.py"), *(["--tensorflow"] if with_tensorflow else [])]
        with open(self._scratch / "server.err", "wb") as err:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=err, env=env, text=True
            )

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._folder.cleanup()

    def run(self, folder: Path, command: str, *flags: str, fault: Fault = Fault()) -> Result:  # noqa: B008, a constant
        """Runs `p2p-COMMAND` to its end, or to that which the fault gives it.

        Args:
            folder: What is changed below it counts.
            command: As `train`.
            flags: Its flags.
            fault: What befalls it.
        """
        request = {"folder": str(folder.resolve()), "command": command, "flags": flags, "scratch": str(self._scratch)}
        self._process.stdin.write(json.dumps({**request, **fault._asdict()}) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError((self._scratch / "server.err").read_text())
        texts = [(self._scratch / name).read_text(errors="replace") for name in ("out", "err", "calls")]
        calls = [line.partition(" ")[2] for line in texts[2].splitlines()]
        return Result(int(answer), texts[0], texts[1], calls)


def _run_child(request: dict, library: object) -> None:
    """In the child: becomes the command."""
    import importlib
    import resource

    scratch = Path(request["scratch"])
    for stream, name in ((1, "out"), (2, "err")):
        descriptor = os.open(scratch / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(descriptor, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.alarm(TRIAL_SECS)
    if request["file_bytes"]:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python does, before C code that resets it
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["file_bytes"],) * 2)
    only = "".join(f",{name}" for name in request["only"]) + "," if request["only"] else ""
    library.faults_shift_clock(request["clock"])
    library.faults_arm(
        *(os.fsencode(text) for text in (request["folder"], str(scratch / "calls"))),
        *(request["at"], request["what"], request["error"], only.encode()),
    )
    sys.argv = [f"p2p-{request['command']}", *request["flags"]]
    importlib.import_module(f"p2p_keras.cli.{request['command']}").entry_point()


def _serve(library: object) -> None:
    for line in sys.stdin:
        child = os.fork()
        if not child:
            try:
                _run_child(json.loads(line), library)
            except SystemExit as end:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(end.code or 0)  # taking the interpreter down takes a second, and writes nothing
            finally:
                os._exit(1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def main() -> None:
    """The server: a line of JSON in, a line with the exit status out."""
    import ctypes

    library = ctypes.CDLL(None)
    library.faults_arm.argtypes = [ctypes.c_char_p] * 2 + [ctypes.c_long, ctypes.c_int, ctypes.c_int, ctypes.c_char_p]
    library.faults_shift_clock.argtypes = [ctypes.c_long]
    import p2p_keras.cli.prepare
    import p2p_keras.data.prepare.run

    if "--tensorflow" in sys.argv:
        import p2p_keras.cli.eval
        import p2p_keras.cli.export
        import p2p_keras.cli.train
        import p2p_keras.evaluation.run
        import p2p_keras.export.open
        import p2p_keras.export.publication
        import p2p_keras.training.run  # noqa: F401
    _serve(library)


if __name__ == "__main__":
    main()
