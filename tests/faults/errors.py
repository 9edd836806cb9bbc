"""What a command does where its disk fails: full, read-only, over quota, failing, without locks; or its clock."""

import errno
import fcntl
import os
import subprocess
import sys
from typing import NamedTuple

from faults.kills import Stage
from faults.scenes import content, differences, losses
from faults.server import COUNT, FAIL, FAIL_FROM, ROOT, Fault, Result

_GROWING = ("open", "write", "mkdir", "link")
_CHANGING = (*_GROWING, "rename", "unlink", "rmdir", "truncate")
_PLACES = 5  # of one kind of call, spread over all of them
_YEAR_SECS = 366 * 86_400


class Kind(NamedTuple):
    """A fault of the table.

    Attributes:
        name: Shown.
        fault: Its `at` is each of a few places of the calls in `only`, if it is 0.
        goes_on: Whether the command must come through all the same.
    """

    name: str
    fault: Fault
    goes_on: bool = False


FAULTS = [
    Kind("disk full (ENOSPC), from then on", Fault(FAIL_FROM, 0, errno.ENOSPC, _GROWING)),
    Kind("over quota (EDQUOT), from then on", Fault(FAIL_FROM, 0, errno.EDQUOT, ("write",))),
    Kind("no file over some size (RLIMIT_FSIZE)", Fault(COUNT, 1, file_bytes=2_000)),
    Kind("read-only (EROFS)", Fault(FAIL_FROM, 1, errno.EROFS, _CHANGING)),
    Kind("EIO, one fsync", Fault(FAIL, 0, errno.EIO, ("fsync",))),
    Kind("EIO, one read", Fault(FAIL, 0, errno.EIO, ("read",))),
    Kind("EIO, every read from then on", Fault(FAIL_FROM, 0, errno.EIO, ("read",))),
    Kind("no locks (ENOLCK)", Fault(FAIL_FROM, 1, errno.ENOLCK, ("flock",)), goes_on=True),
    Kind("no locks on folders (EBADF)", Fault(FAIL_FROM, 1, errno.EBADF, ("flock",)), goes_on=True),
    Kind("a clock a year back", Fault(COUNT, 1, clock=-_YEAR_SECS), goes_on=True),
    Kind("two at once", Fault()),
]


class Row(NamedTuple):
    """What came of it."""

    cells: list[str]
    is_bad: bool
    problems: list[str]


def befall(stage: Stage, kind: Kind) -> Row | None:
    """Lets a fault befall a scene's command, each time followed by the command without it.

    Returns:
        A row of the table, or None if the command makes no call that the fault could meet.
    """
    if kind.name == "two at once":
        return _two_at_once(stage)
    if kind.fault.file_bytes and stage.scene.command != "prepare":  # whose own files are small
        kind = kind._replace(fault=kind.fault._replace(file_bytes=100_000))  # not those that TensorFlow writes in /tmp
    places = [kind.fault.at] if kind.fault.at else _places(stage, kind.fault)
    if not places:
        return None
    ends: dict[int, int] = {}
    said, lost, later = "", [], []
    for place in places:
        stage.reset()
        result = stage.run(kind.fault._replace(at=place))
        ends[result.status] = ends.get(result.status, 0) + 1
        if result.status == 2:
            said = result.err.strip()
        now = _complaints(kind, result) + losses(stage.scene, stage.before, content(stage.trial), stage.end)
        lost += [f"{kind.name} at {place}: {what}" for what in now]
        later += [f"{kind.name} at {place}, then: {what}" for what in _wrong_at_the_end(stage, result)]
    return _row(stage, kind, ends, said, lost, later)


def _complaints(kind: Kind, result: Result) -> list[str]:
    """What is wrong with how a command ended: with 0, or with 2 and one line."""
    if result.status == 0:
        return []
    if result.status == 2 and result.err.count("\n") == 1 and not kind.goes_on:
        return []
    return [f"it ended with {result.status}: {result.err.strip()[-600:]}"]


def _wrong_at_the_end(stage: Stage, result: Result) -> list[str]:
    """As for kills, but for what is said, and kept all the same.

    A checkpoint that could not be read has another name now. Training goes on where only `eval/` cannot be written, and
    its scores stand in `history.jsonl`.
    """
    allowed = [".damaged", *(["eval/val/"] if "is in history.jsonl alone" in result.out else [])]
    return [what for what in stage.wrong_at_the_end() if not any(name in what for name in allowed)]


def _row(stage: Stage, kind: Kind, ends: dict[int, int], said: str, lost: list[str], later: list[str]) -> Row:
    statuses = ", ".join(f"{status} ({count}x)" for status, count in sorted(ends.items()))
    for path, name in ((stage.trial, "FOLDER"), (stage.data, "DATA")):
        said = said.replace(str(path), name)
    again = f"{len(later)} differ" if later else "the same end"
    cells = [kind.name, stage.scene.name, statuses, said.replace("|", " "), str(len(lost)), again]
    return Row(cells, bool(lost + later), lost + later)


def _places(stage: Stage, fault: Fault) -> list[int]:
    stage.reset()
    count = len(stage.run(Fault(COUNT, only=fault.only)).calls)
    return sorted({1 + (count - 1) * number // (_PLACES - 1) for number in range(_PLACES)}) if count else []


def _two_at_once(stage: Stage) -> Row | None:
    """Of p2p-train and p2p-prepare the second is refused; p2p-eval and p2p-export both come through."""
    kind, scene = FAULTS[-1], stage.scene
    stage.reset()
    if scene.command in ("train", "prepare"):
        path = stage.trial / ".lock" if scene.command == "train" else stage.trial
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        result = stage.run()
        os.close(descriptor)
        lost = [] if result.status == 2 else [f"{kind.name}: it ended with {result.status}"]
        lost += [f"{kind.name}: {what}" for what in _complaints(kind, result)]
        later = [f"{kind.name}, then: {what}" for what in _wrong_at_the_end(stage, result)]
        return _row(stage, kind, {result.status: 1}, result.err.strip(), lost, later)
    flags = scene.flags(stage.trial, stage.data)
    command = [sys.executable, "-m", f"p2p_keras.cli.{scene.command}", *flags]
    both = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(2)]
    said = [process.communicate()[1].decode() for process in both]
    ends: dict[int, int] = {}
    for process in both:
        ends[process.returncode] = ends.get(process.returncode, 0) + 1
    lost = [f"{kind.name}: {text[-300:]}" for text, one in zip(said, both, strict=True) if one.returncode]
    later = [f"{kind.name}, then: {what}" for what in differences(stage.end, content(stage.trial))]
    return _row(stage, kind, ends, "", lost, later)
