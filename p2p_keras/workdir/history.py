"""`history.jsonl`: a line for each epoch, what its losses came to and what it scored."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from p2p_keras.metrics.table import in_order
from p2p_keras.system.files import append_line, naming, write_whole
from p2p_keras.system.sealed import is_number, seal, unseal

HISTORY = "history.jsonl"


def read_history(workdir: Path) -> list[dict]:
    """The records of a run's epochs, by step; none if there are none yet. A damaged line is skipped.

    A line with a digit that is another one than was written is damaged, too: each has a checksum.
    """
    records, path = [], workdir / HISTORY
    if path.is_file():  # and no pipe or link to a device, which would never end
        with naming(path):
            lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        for line in lines:
            with contextlib.suppress(ValueError, RecursionError):
                records.append(unseal(json.loads(line)))
    return [record for record in records if record and _is_whole(record)]


def append_history(workdir: Path, record: dict) -> None:
    """Adds a record, and makes the disk keep it: the checkpoints that it speaks of are kept as surely."""
    append_line(workdir / HISTORY, json.dumps(seal(record)))


def keep_history(workdir: Path, done_steps: int, epochs: int, report: Callable[[str], None] = print) -> None:
    """Drops the records that will be made again: beyond the restored step, and those of part of an epoch.

    Args:
        workdir: The run's folder.
        done_steps: The restored step.
        epochs: Whole epochs that are done by then. Each has left a record.
        report: Called with one line if some of those are damaged or gone.
    """
    kept = [record for record in read_history(workdir) if record["step"] <= done_steps and record["epoch"] % 1 == 0]
    if lost := sorted(set(range(1, epochs + 1)) - {round(record["epoch"]) for record in kept}):
        report(
            f"{workdir / HISTORY} is damaged, or was cut off: of {epochs} epochs, what {len(lost)} came to, the first "
            f"of them epoch {lost[0]}, is lost for the curves and for finding the best"
        )
    write_whole(workdir / HISTORY, "".join(json.dumps(seal(record)) + "\n" for record in kept))


def _is_whole(record: dict[str, Any]) -> bool:
    losses, evaluation = ("gan_loss", "l1_loss", "discriminator_loss"), record.get("evaluation", {"split": ""})
    others = [record.get(name) for name in ("generator_loss", "images_per_sec", "secs")]
    return (
        type(record.get("step")) is int
        and all(is_number(record.get(name)) for name in ("step", "epoch", *losses))
        and 0 < record["epoch"] <= record["step"]  # an epoch has a step at least
        and all(value is None or is_number(value) for value in others)
        and isinstance(evaluation, dict)
        and isinstance(evaluation.get("split"), str)
        and all(is_number(evaluation[name]) for name in in_order(set(evaluation)))
    )
