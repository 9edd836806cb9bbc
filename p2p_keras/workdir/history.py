"""`history.jsonl`: a line for each epoch, what its losses came to and what it scored."""

import contextlib
import json
from pathlib import Path

from p2p_keras.metrics.table import in_order
from p2p_keras.system.files import append_line, naming, write_whole

HISTORY = "history.jsonl"


def read_history(workdir: Path) -> list[dict]:
    """The records of a run's epochs, by step; none if there are none yet. A damaged line is skipped."""
    records = []
    with contextlib.suppress(FileNotFoundError), naming(workdir / HISTORY):
        for line in (workdir / HISTORY).read_text(encoding="utf-8-sig", errors="replace").splitlines():
            with contextlib.suppress(ValueError, RecursionError):
                records.append(json.loads(line))
    return [record for record in records if isinstance(record, dict) and _is_whole(record)]


def append_history(workdir: Path, record: dict) -> None:
    """Adds a record, and makes the disk keep it: the checkpoints that it speaks of are kept as surely."""
    append_line(workdir / HISTORY, json.dumps(record))


def keep_history(workdir: Path, done_steps: int) -> None:
    """Drops the records that will be made again: beyond the restored step, and those of part of an epoch."""
    kept = [record for record in read_history(workdir) if record["step"] <= done_steps and record["epoch"] % 1 == 0]
    write_whole(workdir / HISTORY, "".join(json.dumps(record) + "\n" for record in kept))


def _is_whole(record: dict) -> bool:
    losses, evaluation = ("gan_loss", "l1_loss", "discriminator_loss"), record.get("evaluation", {"split": ""})
    return (
        isinstance(record.get("step"), int)
        and all(isinstance(record.get(name), int | float) for name in ("epoch", *losses))
        and isinstance(evaluation, dict)
        and isinstance(evaluation.get("split"), str)
        and all(isinstance(evaluation[name], int | float) for name in in_order(set(evaluation)))
    )
