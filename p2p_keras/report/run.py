"""From the folders of runs to their page, again and again if they are followed."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from p2p_keras.errors import UserError
from p2p_keras.report.gather import gather, names_of
from p2p_keras.report.page import SAMPLE_BYTES, load_template, render
from p2p_keras.report.pairs import Translated, translate_pairs
from p2p_keras.system.urls import Url

_READ = ("config.json", "history.jsonl", "doctor.json", "eval/*/metrics.json", "samples/*.png")
_CHECKPOINTS = ("checkpoints/step_*", "checkpoints/best/step_*", "snapshots/step_*")


def make_reporter(
    workdirs: Sequence[Path],
    which: str = "latest",
    split: str | None = None,
    most: int = 100,
    data_dir: Path | Url | None = None,
    report: Callable[[str], None] = print,
) -> Callable[[str], bytes]:
    """Returns a function of a version that makes the page of one run, or of two side by side, as they are then.

    Pairs are translated anew when there is another checkpoint than the last time.

    Args:
        workdirs: The folders of the runs.
        which: The checkpoint: `latest`, `best`, or a step.
        split: Of the pairs; by default `val`, without it `test`, then `train`.
        most: So many pairs at most; 0 makes a page without.
        data_dir: Where the data lie, if not where the runs say.
        report: Called with lines that a person should read, each of them once.

    Raises:
        UserError: jinja2 is not installed. The function: a folder holds no run.
    """
    template, names = load_template(), names_of(list(workdirs))
    known: dict[Path, tuple[str, Translated | str]] = {}
    said: set[str] = set()

    def say(line: str) -> None:
        if line not in said:
            said.add(line)
            report(line)

    def pairs_of(workdir: Path) -> Translated | str:
        if not most:
            return "None were asked for (--pairs=0)."
        state = _state(workdir, _CHECKPOINTS)
        if workdir not in known or known[workdir][0] != state:
            try:
                found = translate_pairs(workdir, which, split, most, data_dir, say)
            except (UserError, OSError) as error:  # the system's: the data may not be read, for one
                found = str(error)
                say(f"The page shows no pairs of {workdir}: {found}")
            known[workdir] = state, found
        return known[workdir][1]

    def make(version: str = "") -> bytes:
        runs = [
            gather(workdir, name, SAMPLE_BYTES // len(workdirs)) for workdir, name in zip(workdirs, names, strict=True)
        ]
        return render(template, runs, [pairs_of(workdir) for workdir in workdirs], version)

    return make


def state_of(workdirs: Sequence[Path]) -> str:
    """A text that is another one when anything has changed that the page shows."""
    return json.dumps([_state(workdir, (*_READ, *_CHECKPOINTS)) for workdir in workdirs])


def _state(workdir: Path, patterns: Sequence[str]) -> str:
    found = []
    for pattern in patterns:
        for path in sorted(workdir.glob(pattern)):
            try:
                status = path.stat()
            except OSError:  # rotated out a moment ago
                continue
            found.append((path.relative_to(workdir).as_posix(), status.st_mtime_ns, status.st_size))
    return json.dumps(found)
