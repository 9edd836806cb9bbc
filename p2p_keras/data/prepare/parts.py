"""A data set made in parts, on several hosts if need be, and the parts made one data set.

All pairs are listed by each part and divided evenly, in the order of the manifest. A part has a hidden folder of its
own with its lock, its journal and, when it is finished, its manifest, so that parts never wait for each other and none
reads what another writes. Loose composites go where they are to stay. Of a data set in shards a part packs its own into
one file, from which `merge` copies long runs of records, so that it opens no small files.
"""

import contextlib
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from p2p_keras.data.manifest import MANIFEST, UNFINISHED, Entry
from p2p_keras.data.pairs import SPLITS
from p2p_keras.data.prepare import lists
from p2p_keras.data.prepare.earlier import Earlier, begin, count, find_difference, is_finished, look_into
from p2p_keras.data.prepare.run import (
    Outcome,
    check_unsharded,
    complete,
    count_new,
    finish,
    finished_before,
    in_order,
    locked_output,
    make_all,
    remove_others,
    settings_of,
    tasks_of,
    too_many,
)
from p2p_keras.data.prepare.shards import write_shard
from p2p_keras.data.prepare.sources import Found
from p2p_keras.data.prepare.splits import Splits
from p2p_keras.data.prepare.stack import Form, entry_name
from p2p_keras.data.prepare.work import Task
from p2p_keras.errors import UserError
from p2p_keras.system import files

PARTS = f"{UNFINISHED}/parts"  # the folder of theirs in the data set's
_PACK = "pairs.tfrecord"  # a part's pairs, if they are to be in shards
_NAMED = 5  # of the parts that are not finished


class Part(NamedTuple):
    """One of several parts of nearly equal size, counted from 0."""

    number: int
    of: int

    def __str__(self) -> str:
        """As `--part` takes it."""
        return f"{self.number}/{self.of}"

    def take(self, tasks: Sequence[Task]) -> Sequence[Task]:
        """Those that are its own."""
        first, end = (number * len(tasks) // self.of for number in (self.number, self.number + 1))
        return tasks[first:end]

    def folder(self, output: Path) -> Path:
        """Its own, below the data set's."""
        return output / PARTS / f"{self.number:05d}-of-{self.of:05d}"


def parse_part(text: str) -> Part:
    """`3/16` -> the part.

    Raises:
        UserError: There is no such part.
    """
    found = re.fullmatch(r"([0-9]{1,5})/([0-9]{1,5})", text)
    if not found:
        raise UserError(f"--part is which part of how many, as 3/16, counted from 0. Received: {text}")
    part = Part(*map(int, found.groups()))
    if part.number >= part.of:
        there = f"those of {part.of} are 0/{part.of} to {part.of - 1}/{part.of}" if part.of else "0 parts are none"
        raise UserError(f"--part counts from 0: {there}. Received: {text}")
    return part


def prepare_part(
    found: Found,
    splits: Splits,
    output: Path,
    form: Form,
    rule: dict[str, Any],
    part: Part,
    shards: int = 0,
    workers: int = 1,
    max_bad_files: int = 0,
) -> Outcome:
    """Makes a part of a data set, or what of it is not there yet. Others may be made at the same time, anywhere.

    Interrupted by whatever means and called again it continues.

    Args:
        found: From `sources`, all of it.
        splits: From `splits`, all of them.
        output: The data set's folder, the same for all parts.
        form: What the composites are to be like.
        rule: How the splits were chosen.
        part: Which.
        shards: TFRecord files that `merge` is to pack all pairs into; 0 leaves them loose.
        workers: Processes.
        max_bad_files: Pairs that may be rejected before it stops.

    Returns:
        What became of the part; `finished_before` also if the whole data set is finished.

    Raises:
        UserError: There is something else in the folder, or too many pairs are bad.
        OSError: The folder cannot be written.
    """
    settings, tasks = settings_of(found, form, rule, shards), tasks_of(splits, form)
    folder = part.folder(output)
    with locked_output(output, shared=True):
        whole = look_into(output, settings)
        if whole.parts not in (0, part.of):
            raise UserError(
                f"{output} is being made in {whole.parts} parts. Received: --part={part}. Give another part of "
                f"{whole.parts}, or another --output."
            )
        if is_finished(output, whole, tasks, form):
            return _finished_before(whole, part.take(tasks), form)
        check_unsharded(output, whole, tasks)
        if not (whole.parts and whole.journal_believed):
            begin(output, whole, settings, parts=part.of)
        folder.mkdir(parents=True, exist_ok=True)
        with _locked_part(output, part):
            root, mine = folder if shards else output, part.take(tasks)
            return _make_part(root, folder, whole, mine, form, settings, workers, max_bad_files)


def merge(
    found: Found,
    splits: Splits,
    output: Path,
    form: Form,
    rule: dict[str, Any],
    shards: int = 0,
    max_bad_files: int = 0,
) -> Outcome:
    """Makes one data set of its parts: every file is that of `run.prepare` with the same arguments, byte for byte.

    No pair is decoded again, but for the few that are looked at and shown. Interrupted by whatever means and called
    again it ends with the same bytes.

    Args:
        found: From `sources`.
        splits: From `splits`.
        output: The data set's folder.
        form: What the composites are like.
        rule: How the splits were chosen.
        shards: TFRecord files to pack the pairs into; 0 leaves them loose.
        max_bad_files: Pairs that may have been rejected, of all parts together.

    Raises:
        UserError: A part is not finished, or was made with other settings or of other files; names it.
        OSError: The folder cannot be written.
    """
    if not output.is_dir():
        raise _no_parts(output)
    settings, tasks = settings_of(found, form, rule, shards), tasks_of(splits, form)
    with locked_output(output):
        whole = look_into(output, settings)
        if is_finished(output, whole, tasks, form):
            return finished_before(output, whole)
        if not whole.parts:
            raise _no_parts(output)
        check_unsharded(output, whole, tasks)
        parts = [Part(number, whole.parts) for number in range(whole.parts)]
        made = _finished_parts(output, parts, tasks, form, settings)
        entries, rejected = in_order(
            (_found_from(output, part, entry) for part in parts for entry in made[part].listed.values()),
            (one for part in parts for one in made[part].rejected),
        )
        if len(rejected) > max_bad_files:
            raise too_many(output, rejected, max_bad_files)
        names = whole.names.union(*(made[part].names for part in parts))
        removed = 0 if shards else remove_others(output, names, entries)
        outcome = complete(output, found, splits, form, settings, entries, rejected)
        return outcome._replace(made=count_new(entries, whole.listed), removed=removed)


def _make_part(
    root: Path,
    folder: Path,
    whole: Earlier,
    tasks: Sequence[Task],
    form: Form,
    settings: dict[str, Any],
    workers: int,
    max_bad_files: int,
) -> Outcome:
    """In its own folder; the composites in `root`."""
    earlier = look_into(folder, settings)
    if is_finished(root, earlier, tasks, form):
        _remove_packed(folder, earlier.shards)
        return _finished_before(earlier, tasks, form)
    begin(folder, earlier, settings)
    journal, believed = folder / UNFINISHED / MANIFEST, {**whole.believed, **earlier.believed}
    entries, rejected = make_all(root, tasks, believed, folder, form, journal, workers, max_bad_files)
    made, packs = count_new(entries, believed), {}
    if root == folder and entries:
        entries, packs[_PACK] = write_shard(folder, _PACK, [entry._replace(shard="") for entry in entries])
    lists.write_rejected(folder, rejected)
    described = {"splits": count(entries), "rejected": len(rejected), "settings": settings, "shards": packs}
    finish(folder, entries, described)
    _remove_packed(folder, packs)
    return Outcome(described["splits"], made, 0, rejected, [], {}, set())


def _finished_before(earlier: Earlier, tasks: Sequence[Task], form: Form) -> Outcome:
    """Of these tasks, among what is there."""
    names = {entry_name(task.source, task.split, form): (task.split, task.source.name) for task in tasks}
    settled, there = set(names.values()), [earlier.listed[name] for name in names if name in earlier.listed]
    rejected = [one for one in earlier.rejected if (one.split, one.pair) in settled]
    return Outcome(count(there), 0, 0, rejected, [], {}, set(), finished_before=True)


def _remove_packed(folder: Path, packs: dict[str, int]) -> None:
    """Composites that are in the part's pack. Its journal stays: by it `merge` knows all that was ever made loose."""
    for split in SPLITS if packs else ():
        shutil.rmtree(folder / split, ignore_errors=True)
    files.remove_leftovers(folder)


def _finished_parts(
    output: Path, parts: Sequence[Part], tasks: Sequence[Task], form: Form, settings: dict[str, Any]
) -> dict[Part, Earlier]:
    """What each part made.

    Raises:
        UserError: One has not made what it now would make.
    """
    made, problems = {}, []
    for part in parts:
        folder = part.folder(output)
        if not folder.is_dir():
            problems.append(f"{part} (not begun)")
            continue
        with _locked_part(output, part):
            made[part] = look_into(folder, settings)
        if not made[part].described:
            problems.append(f"{part} (not finished)")
            continue
        root = folder if settings["shards"] else output
        if problem := find_difference(root, made[part], part.take(tasks), form):
            problems.append(f"{part} ({problem})")
    if problems:
        named = ", ".join(problems[:_NAMED]) + (", ..." if len(problems) > _NAMED else "")
        raise UserError(
            f"--merge needs every part, made of the source as it is now. Of the {len(parts)} parts of {output}, "
            f"{len(problems)} {'is' if len(problems) == 1 else 'are'} not: {named}. Run "
            f"{'it' if len(problems) == 1 else 'them'} again, as with --part={problems[0].partition(' ')[0]}, then "
            "--merge."
        )
    return made


def _no_parts(output: Path) -> UserError:
    return UserError(f"--merge makes a data set of its parts. There are none in {output}. Make them with --part.")


def _found_from(output: Path, part: Part, entry: Entry) -> Entry:
    """A part's entry, its shard named as from the data set's folder."""
    if not entry.shard:
        return entry
    return entry._replace(shard=(part.folder(output) / entry.shard).relative_to(output).as_posix())


@contextlib.contextmanager
def _locked_part(output: Path, part: Part) -> Iterator[None]:
    """Keeps others away from a part. A file is locked, not a folder, which other hosts would not notice on NFS."""
    folder = part.folder(output)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(files.locked(folder.with_name(f"{folder.name}.lock"), wait=False))
        except BlockingIOError as error:
            raise UserError(
                f"Only one p2p-prepare may make a part. Another one is at work on part {part} of {output}. Wait for it."
            ) from error
        yield
