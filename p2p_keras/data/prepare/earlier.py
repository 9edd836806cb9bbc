"""What earlier calls of p2p-prepare left in an output folder: a finished data set, an interrupted one, or nothing.

While a data set is being made it has a hidden folder with the settings and a journal: the lines of the manifest, in the
order in which they come. Both are believed only as far as they are whole.
"""

import contextlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from p2p_keras.data import manifest
from p2p_keras.data.manifest import DESCRIPTION, MANIFEST, UNFINISHED, Entry
from p2p_keras.data.pairs import SPLITS
from p2p_keras.data.prepare import lists
from p2p_keras.data.prepare.sources import made_from
from p2p_keras.data.prepare.stack import Form, entry_name, same_sizes, source_sizes
from p2p_keras.data.prepare.work import Rejected, Task
from p2p_keras.errors import UserError
from p2p_keras.system.files import write_whole
from p2p_keras.system.sealed import seal
from p2p_keras.system.urls import file_size


class Earlier(NamedTuple):
    """What there is.

    Attributes:
        described: What `dataset.json` says; empty if no data set was finished.
        listed: The pairs of a finished data set, by name.
        rejected: Those that could not be made.
        journal: The pairs that an interrupted call has made, by name.
        journal_believed: Whether they are known to be made with the settings of now.
        parts: Into how many parts it is divided; 0 if it is made in one go.
    """

    described: dict[str, Any]
    listed: dict[str, Entry]
    rejected: list[Rejected]
    journal: dict[str, Entry]
    journal_believed: bool
    parts: int = 0

    @property
    def shards(self) -> dict[str, int]:
        """Shard -> its size in bytes."""
        return self.described.get("shards", {})

    @property
    def believed(self) -> dict[str, Entry]:
        """Pairs that need not be made again if their files are still as they were."""
        return {**self.listed, **self.journal} if self.journal_believed else self.listed

    @property
    def names(self) -> set[str]:
        """Composites that may be there."""
        return self.listed.keys() | self.journal.keys()


def begun_with(output: Path) -> dict[str, Any]:
    """The settings of the data set in a folder, finished or not; empty if there is none, or what says so is damaged."""
    for path in (output / UNFINISHED / DESCRIPTION, output / DESCRIPTION):
        with contextlib.suppress(UserError):
            settings = manifest.read_description(path).get("settings")
            if isinstance(settings, dict):
                return settings
    return {}


def look_into(output: Path, settings: dict[str, Any]) -> Earlier:
    """Looks for what an earlier call left.

    Args:
        output: The data set's folder.
        settings: Those of now.

    Raises:
        UserError: What is there was made from something else, with other settings, or not by p2p-prepare.
    """
    state = output / UNFINISHED
    described = manifest.read_description(output / DESCRIPTION)
    try:
        begun = manifest.read_description(state / DESCRIPTION)
    except UserError:
        begun = {}  # cut short: it is written anew, and what nobody knows the settings of is made again
    for record in (described, begun):
        if record:
            _check_settings(output, record, settings)
    others = sorted(path.name for path in output.iterdir())
    if others and not described and not state.is_dir():
        raise UserError(
            f"--output must be a new folder, or one of an earlier p2p-prepare. {output} holds {others[0]}. "
            "Name another one."
        )
    if described and not (output / MANIFEST).exists():
        raise UserError(
            f"A finished data set lists its pairs, but {output / MANIFEST} is gone. Put it back, remove {output} to "
            "have all pairs made anew, or name another --output."
        )
    return Earlier(
        described,
        listed=manifest.read(output / MANIFEST) if described else {},
        rejected=lists.read_rejected(output),
        journal=manifest.read_journal(state / MANIFEST),
        journal_believed="made_from" in begun.get("settings", {}),  # which earlier versions did not write
        parts=begun.get("parts", 0),
    )


def is_finished(output: Path, earlier: Earlier, tasks: Sequence[Task], form: Form) -> bool:
    """Whether every pair is as the manifest says: there, of its size, and made from files of the same sizes."""
    return bool(earlier.described) and find_difference(output, earlier, tasks, form) is None


def find_difference(root: Path, earlier: Earlier, tasks: Sequence[Task], form: Form) -> str | None:
    """Why what is there is not what the tasks would make, in a few words; None if it is.

    Args:
        root: Where the composites, or the shards, lie.
        earlier: What is there, described.
        tasks: All pairs that should be.
        form: Of the composites.
    """
    settled = {(one.split, one.pair): one.source_bytes for one in earlier.rejected}
    if len(earlier.listed) + len(settled) != len(tasks):
        return f"it has {len(earlier.listed) + len(settled)} pairs, and now there are {len(tasks)}"
    described = earlier.described.get("splits"), earlier.described.get("rejected")
    if described != (count(earlier.listed.values()), len(settled)):
        return "its manifest is newer than its description"  # killed between the two
    for shard, size in earlier.shards.items():
        if file_size(root / shard) != size:
            return f"{shard} is not as it was written"
    for task in tasks:
        name = entry_name(task.source, task.split, form)
        entry = earlier.listed.get(name)
        before = entry.source_bytes if entry else settled.get((task.split, task.source.name))
        if before is None:
            return f"{name} is new"
        if not same_sizes(before, source_sizes(task.source.files)):
            return f"the files of {name} have changed"
        if entry and not earlier.shards and file_size(root / name) != entry.bytes:
            return f"{name} is not as it was written"
    return None


def begin(output: Path, earlier: Earlier, settings: dict[str, Any], **more: Any) -> None:
    """Writes down the settings, and the journal anew: whole lines only, to which new ones can be added.

    Args:
        output: The data set's folder.
        earlier: What is in it.
        settings: Those of now.
        **more: What else is written down beside them.
    """
    state = output / UNFINISHED
    state.mkdir(exist_ok=True)
    believed = earlier.journal.values() if earlier.journal_believed else ()
    # First the journal, so that one from unknown settings never stands beside known ones.
    write_whole(state / MANIFEST, manifest.HEAD + manifest.format_lines(believed))
    write_whole(state / DESCRIPTION, to_json({"settings": settings, **more}))


def count(entries: Iterable[Entry]) -> dict[str, int]:
    """How many pairs each split has."""
    splits = [entry.split for entry in entries]
    return {split: splits.count(split) for split in SPLITS}


def to_json(record: dict[str, Any]) -> str:
    """The content of a `dataset.json`."""
    return json.dumps(seal(record), indent=2) + "\n"


def _check_settings(output: Path, record: dict[str, Any], now: dict[str, Any]) -> None:
    before = record.get("settings")
    if before is None:
        raise UserError(f"{output} holds a data set that p2p-prepare did not make. Name another --output.")
    origin = before.get("made_from")
    if origin is None and isinstance(record.get("source"), dict):  # by earlier versions, of finished data sets only
        origin = made_from(record["source"]["kind"], record["source"]["folders"].split(", "))
    if origin is not None and origin != now["made_from"]:
        raise UserError(
            f"{output} was made from {origin}, in this order, but now it would be made from {now['made_from']}: give "
            f"the folders or panels as before, or, to make all pairs anew in the new order, remove {output} or name "
            "another --output."
        )
    now = json.loads(json.dumps(now))
    changed = [name for name in now if before.get(name) != now[name] and name != "made_from"]
    if changed:
        differences = ", ".join(f"{name} was {before.get(name)}, is {now[name]}" for name in changed)
        raise UserError(
            f"A data set continues only with the settings it began with. In {output} {differences}. "
            "Give the old values, or another --output."
        )
