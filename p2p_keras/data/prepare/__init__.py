"""Raw folders -> a checked data set of side-by-side pairs: the run of `p2p-prepare`.

While a data set is being made it has a hidden folder with the settings and a journal: the lines of the manifest, in the
order in which they come. `dataset.json` is written last.
"""

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from p2p_keras.data import manifest
from p2p_keras.data.manifest import DESCRIPTION, MANIFEST, UNFINISHED, Entry
from p2p_keras.data.pairs import SPLITS
from p2p_keras.data.prepare import lists
from p2p_keras.data.prepare.duplicates import Alike, near_duplicates
from p2p_keras.data.prepare.preview import draw_preview
from p2p_keras.data.prepare.shards import write_shards
from p2p_keras.data.prepare.sources import Found
from p2p_keras.data.prepare.splits import Splits
from p2p_keras.data.prepare.stack import FILTER, Form, entry_name, source_size
from p2p_keras.data.prepare.work import Rejected, Task, make_pairs
from p2p_keras.errors import UserError
from p2p_keras.pictures import write_png
from p2p_keras.progress import ProgressLine
from p2p_keras.workdir import write_text

PREVIEW = "preview.png"


class Outcome(NamedTuple):
    """What became of it."""

    counts: dict[str, int]  # split -> pairs
    made: int  # pairs that were not there before
    removed: int  # pairs that were there, and are in the source no more
    rejected: list[Rejected]
    alike: list[Alike]
    shards: dict[str, int]  # shard -> bytes
    finished_before: bool = False


def prepare(
    found: Found,
    splits: Splits,
    output: Path,
    form: Form,
    rule: dict[str, Any],
    shards: int = 0,
    workers: int = 1,
    max_bad_files: int = 0,
) -> Outcome:
    """Makes a data set, or what of it is not there yet.

    Interrupted by whatever means and called again it continues, and ends with the same bytes. What is there already is
    believed only if source size and checksum say so.

    Args:
        found: From `sources`.
        splits: From `splits`.
        output: The data set's folder.
        form: What the composites are to be like.
        rule: How the splits were chosen, for `dataset.json`.
        shards: TFRecord files to pack the pairs into; 0 leaves them loose.
        workers: Processes.
        max_bad_files: Pairs that may be rejected before it stops.

    Raises:
        UserError: There is something else in the folder, or too many pairs are bad.
        OSError: The folder cannot be written.
    """
    settings = {"panels": list(found.panels), **form._asdict(), "splits": rule, "shards": shards}
    with _locked(output):
        known, described = _known(output, settings)
        tasks = [Task(source, split) for source, split in splits.split_of.items()]
        tasks = [task._replace(known=known.get(entry_name(task.source, task.split, form))) for task in tasks]
        tasks.sort(key=lambda task: (SPLITS.index(task.split), task.source.name))
        rejected = lists.read_rejected(output) if described else []
        if described and _is_finished(output, tasks, known, rejected):
            _clean_up(output, described.get("shards", {}))
            return Outcome(described["splits"], 0, 0, rejected, [], described.get("shards", {}), finished_before=True)
        if described.get("shards"):
            raise UserError(
                f"Shards are not changed once they are made. {output} holds {len(known)} pairs in shards; now "
                f"there are {len(tasks)}, or their files have changed. Name another --output."
            )
        (output / UNFINISHED).mkdir(exist_ok=True)
        write_text(output / UNFINISHED / DESCRIPTION, _to_json({"settings": settings}))
        entries, rejected = _make_all(tasks, output, form, workers, max_bad_files)
        made = sum(known.get(entry.name) != entry for entry in entries)
        stale = known.keys() - {entry.name for entry in entries}
        for name in stale:
            (output / name).unlink(missing_ok=True)
        alike = near_duplicates(entries)
        lists.write_lists(output, rejected, {**found.unmatched, **splits.left_out}, alike)
        if entries:
            write_png(output / PREVIEW, draw_preview(entries, output, found.panels))
        sizes: dict[str, int] = {}
        if shards:
            entries, sizes = write_shards(output, entries, shards)
        os.sync()  # once for all pairs, instead of waiting for the disk with each of them
        write_text(output / MANIFEST, manifest.HEAD + manifest.format_lines(entries))
        counts = {split: sum(entry.split == split for entry in entries) for split in SPLITS}
        described = {
            "format": manifest.FORMAT,
            "panels": list(found.panels),
            "image_size": form.image_size,
            "channels": form.channels,
            "bits": form.bits,
            "splits": counts,
            "rejected": len(rejected),
            "left_out": len(found.unmatched) + len(splits.left_out),
            "resizing": FILTER,
            "source": found.origin,
            "settings": settings,
            "shards": sizes,
        }
        write_text(output / DESCRIPTION, _to_json(described))
        _clean_up(output, sizes)
        return Outcome(counts, made, len(stale), rejected, alike, sizes)


def _make_all(
    tasks: Sequence[Task], output: Path, form: Form, workers: int, max_bad_files: int
) -> tuple[list[Entry], list[Rejected]]:
    entries, rejected = [], []
    progress = ProgressLine(len(tasks), "pairs")
    batches = make_pairs(tasks, output, form, workers)
    with open(output / UNFINISHED / MANIFEST, "a", encoding="utf-8") as journal, contextlib.closing(batches):
        if not journal.tell():
            journal.write(manifest.HEAD)
        for batch in batches:
            made = [result for result in batch if isinstance(result, Entry)]
            entries += made
            rejected += [result for result in batch if isinstance(result, Rejected)]
            journal.write(manifest.format_lines(made))
            journal.flush()
            if len(rejected) > max_bad_files:
                progress.clear()
                raise _too_many(output, rejected, max_bad_files)
            progress.update(len(entries) + len(rejected), f"{len(rejected)} rejected" if rejected else "")
    progress.clear()
    order = {split: number for number, split in enumerate(SPLITS)}
    return (
        sorted(entries, key=lambda entry: (order[entry.split], entry.pair)),
        sorted(rejected, key=lambda one: (order[one.split], one.pair)),
    )


def _known(output: Path, settings: dict[str, Any]) -> tuple[dict[str, Entry], dict[str, Any]]:
    """What earlier calls made, by name, and the description of the finished data set, if it is one.

    Raises:
        UserError: It was made with other settings, or not by p2p-prepare.
    """
    state, described, known = output / UNFINISHED, {}, {}
    for folder in (output, state):
        here = manifest.read_description(folder / DESCRIPTION)
        if here:
            _check_settings(output, here.get("settings"), settings)
            if (folder / MANIFEST).exists():
                known |= manifest.read(folder / MANIFEST)
        described = described or (here if folder == output else {})
    others = [path.name for path in output.iterdir() if path.name != UNFINISHED]
    if others and not described and not state.is_dir():
        raise UserError(
            f"--output must be a new folder, or one of an earlier p2p-prepare. {output} holds {sorted(others)[0]}. "
            "Name another one."
        )
    return known, described


def _check_settings(output: Path, before: dict[str, Any] | None, now: dict[str, Any]) -> None:
    if before is None:
        raise UserError(f"{output} holds a data set that p2p-prepare did not make. Name another --output.")
    now = json.loads(json.dumps(now))
    changed = [name for name in now if before.get(name) != now[name]]
    if changed:
        differences = ", ".join(f"{name} was {before.get(name)}, is {now[name]}" for name in changed)
        raise UserError(
            f"A data set continues only with the settings it began with. In {output} {differences}. "
            "Give the old values, or another --output."
        )


def _is_finished(output: Path, tasks: Sequence[Task], known: dict[str, Entry], rejected: list[Rejected]) -> bool:
    """Whether every pair is as it was: there, of the size written down, and made from files of the same size."""
    if len(known) + len(rejected) != len(tasks):
        return False
    settled = {(one.split, one.pair): one.source_bytes for one in rejected}
    shards = {output / entry.shard for entry in known.values() if entry.shard}
    if not all(shard.is_file() for shard in shards):
        return False
    for task in tasks:
        entry = task.known
        before = entry.source_bytes if entry else settled.get((task.split, task.source.name))
        if before != source_size(task.source.files):
            return False
        if entry and not entry.shard and source_size((str(output / entry.name),)) != entry.bytes:
            return False
    return True


def _clean_up(output: Path, shards: dict[str, int]) -> None:
    for split in SPLITS if shards else ():  # what is in shards need not lie loose as well
        shutil.rmtree(output / split, ignore_errors=True)
    shutil.rmtree(output / UNFINISHED, ignore_errors=True)


def _too_many(output: Path, rejected: list[Rejected], max_bad_files: int) -> UserError:
    lists.write_lists(output, rejected, {}, [])
    first = "; ".join(f"{one.pair}: {one.problem}" for one in rejected[:3])
    return UserError(
        f"More than {max_bad_files} pairs cannot be made: {first}{'; ...' if len(rejected) > 3 else ''}. All so far "
        f"are in {output / lists.REJECTED}. Mend or remove them, or allow more with --max_bad_files; the same command "
        "continues."
    )


def _to_json(record: dict[str, Any]) -> str:
    return json.dumps(record, indent=2) + "\n"


@contextlib.contextmanager
def _locked(output: Path) -> Iterator[None]:
    """Makes the folder if need be, and keeps a second p2p-prepare out of it."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        folder = os.open(output, os.O_RDONLY)
    except OSError as error:
        raise UserError(
            f"--output must be a folder that can be written. {output}: {error.strerror}. Name another one."
        ) from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise UserError(f"Only one p2p-prepare may write a data set. Another one is at work in {output}.") from error
    finally:
        os.close(folder)
