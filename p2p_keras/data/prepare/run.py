"""Raw folders -> a checked data set of side-by-side pairs: the run of `p2p-prepare`.

While a data set is being made it has a hidden folder with the settings and a journal: the lines of the manifest, in the
order in which they come. `dataset.json` is written last.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from p2p_keras.data import manifest
from p2p_keras.data.check import file_size
from p2p_keras.data.manifest import DESCRIPTION, MANIFEST, UNFINISHED, Entry
from p2p_keras.data.pairs import SPLITS
from p2p_keras.data.prepare import lists
from p2p_keras.data.prepare.duplicates import Alike, near_duplicates
from p2p_keras.data.prepare.preview import draw_preview
from p2p_keras.data.prepare.shards import write_shards
from p2p_keras.data.prepare.sources import Found, made_from
from p2p_keras.data.prepare.splits import Splits
from p2p_keras.data.prepare.stack import FILTER, Form, entry_name, same_sizes, source_sizes
from p2p_keras.data.prepare.work import Rejected, Task, make_pairs
from p2p_keras.errors import UserError
from p2p_keras.images.files import write_png
from p2p_keras.system import files
from p2p_keras.system.files import write_whole
from p2p_keras.system.progress import ProgressLine

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
    settings = {"made_from": made_from(found.origin), "panels": list(found.panels), **form._asdict()}
    settings |= {"splits": rule, "shards": shards}
    tasks = [Task(source, split) for source, split in splits.split_of.items()]
    tasks.sort(key=lambda task: (SPLITS.index(task.split), task.source.name))
    names = [entry_name(task.source, task.split, form) for task in tasks]
    with _locked(output):
        described, settings_known = _look_into(output, settings)
        listed = manifest.read(output / MANIFEST) if described else {}
        if described and _is_finished(output, tasks, names, listed, described):
            _clean_up(output, described["shards"])
            rejected = lists.read_rejected(output)
            return Outcome(described["splits"], 0, 0, rejected, [], described["shards"], finished_before=True)
        if described.get("shards"):
            raise UserError(
                f"Shards are not changed once they are made. {output} holds {len(listed)} pairs in shards; now "
                f"there are {len(tasks)}, or their files have changed. Name another --output."
            )
        state = output / UNFINISHED
        state.mkdir(exist_ok=True)
        journal = manifest.read_journal(state / MANIFEST)
        known = {**listed, **(journal if settings_known else {})}
        # First the journal, so that one from unknown settings never stands beside known ones.
        write_whole(state / MANIFEST, manifest.HEAD + manifest.format_lines(journal.values() if settings_known else ()))
        write_whole(state / DESCRIPTION, _to_json({"settings": settings}))
        tasks = [task._replace(known=known.get(name)) for task, name in zip(tasks, names, strict=True)]
        entries, rejected = _make_all(tasks, output, form, workers, max_bad_files)
        made = sum(entry.name not in known or known[entry.name].sha256 != entry.sha256 for entry in entries)
        made_or_kept = {entry.name for entry in entries}
        stale = [name for name in {**listed, **journal} if name not in made_or_kept and (output / name).exists()]
        for name in stale:
            (output / name).unlink()
        alike = near_duplicates(entries)
        left_out = {**found.unmatched, **splits.left_out}
        lists.write_lists(output, rejected, left_out, alike)
        if entries:
            write_png(output / PREVIEW, draw_preview(entries, output, found.panels))
        entries, sizes = write_shards(output, entries, shards) if shards else (entries, {})
        counts = _count(entries)
        os.sync()  # once for all pairs, instead of waiting for the disk with each of them
        write_whole(output / MANIFEST, manifest.HEAD + manifest.format_lines(entries))
        described = {
            "format": manifest.FORMAT,
            "panels": list(found.panels),
            "image_size": form.image_size,
            "channels": form.channels,
            "bits": form.bits,
            "splits": counts,
            "rejected": len(rejected),
            "left_out": len(left_out),
            "resizing": FILTER,
            "source": found.origin,
            "settings": settings,
            "shards": sizes,
        }
        write_whole(output / DESCRIPTION, _to_json(described))
        _clean_up(output, sizes)
        return Outcome(counts, made, len(stale), rejected, alike, sizes)


def _make_all(
    tasks: Sequence[Task], output: Path, form: Form, workers: int, max_bad_files: int
) -> tuple[list[Entry], list[Rejected]]:
    entries, rejected = [], []
    progress = ProgressLine(len(tasks), "pairs")
    batches = make_pairs(tasks, output, form, workers)
    with open(output / UNFINISHED / MANIFEST, "a", encoding="utf-8") as journal, contextlib.closing(batches):
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


def _look_into(output: Path, settings: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """The description of the data set that an earlier call finished, empty if there is none; and whether it is known
    that the journal of an interrupted call was written with these settings.

    Raises:
        UserError: What is there was made with other settings, or not by p2p-prepare.
    """
    state = output / UNFINISHED
    described = manifest.read_description(output / DESCRIPTION)
    try:
        begun = manifest.read_description(state / DESCRIPTION)
    except UserError:  # cut short: it is written anew, and what nobody knows the settings of is made again
        begun = {}
    for record in (described, begun):
        if record:
            _check_settings(output, record, settings)
    others = sorted(path.name for path in output.iterdir())
    if others and not described and not state.is_dir():
        raise UserError(
            f"--output must be a new folder, or one of an earlier p2p-prepare. {output} holds {others[0]}. "
            "Name another one."
        )
    return described, "made_from" in begun.get("settings", {})


def _check_settings(output: Path, record: dict[str, Any], now: dict[str, Any]) -> None:
    before = record.get("settings")
    if before is None:
        raise UserError(f"{output} holds a data set that p2p-prepare did not make. Name another --output.")
    # Earlier versions wrote where the pairs came from, and that only when the data set was finished.
    origin_before = before.get("made_from") or ("source" in record and made_from(record["source"]))
    if origin_before and origin_before != now["made_from"]:
        raise UserError(
            f"{output} was made from {origin_before}, in this order, but now it would be made from {now['made_from']}: "
            f"give the folders or panels as before, or, to make all pairs anew in the new order, remove {output} or "
            "name another --output."
        )
    now = json.loads(json.dumps(now))
    changed = [name for name in now if before.get(name) != now[name] and name != "made_from"]
    if changed:
        differences = ", ".join(f"{name} was {before.get(name)}, is {now[name]}" for name in changed)
        raise UserError(
            f"A data set continues only with the settings it began with. In {output} {differences}. "
            "Give the old values, or another --output."
        )


def _is_finished(
    output: Path, tasks: Sequence[Task], names: Sequence[str], listed: dict[str, Entry], described: dict[str, Any]
) -> bool:
    """Whether every pair is as the manifest says: there, of its size, and made from files of the same size."""
    shards = described["shards"]
    settled = {(one.split, one.pair): one.source_bytes for one in lists.read_rejected(output)}
    if len(listed) + len(settled) != len(tasks):
        return False
    if described["splits"] != _count(listed.values()) or described["rejected"] != len(settled):
        return False  # killed after it wrote the new manifest, and before it described it
    if any(file_size(output / shard) != size for shard, size in shards.items()):
        return False
    for task, name in zip(tasks, names, strict=True):
        entry = listed.get(name)
        before = entry.source_bytes if entry else settled.get((task.split, task.source.name))
        if before is None or not same_sizes(before, source_sizes(task.source.files)):
            return False
        if entry and not shards and file_size(output / name) != entry.bytes:
            return False
    return True


def _count(entries: Iterable[Entry]) -> dict[str, int]:
    splits = [entry.split for entry in entries]
    return {split: splits.count(split) for split in SPLITS}


def _clean_up(output: Path, shards: dict[str, int]) -> None:
    for split in SPLITS:
        if shards:  # what is in shards need not lie loose as well
            shutil.rmtree(output / split, ignore_errors=True)
        for folder, _, _ in os.walk(output / split):
            files.remove_leftovers(Path(folder))
    files.remove_leftovers(output)
    shutil.rmtree(output / UNFINISHED, ignore_errors=True)


def _too_many(output: Path, rejected: list[Rejected], max_bad_files: int) -> UserError:
    lists.write_rejected(output, rejected)
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
    with contextlib.ExitStack() as stack:
        try:
            output.mkdir(parents=True, exist_ok=True)
            stack.enter_context(files.locked(output, wait=False))
        except BlockingIOError as error:
            raise UserError(
                f"Only one p2p-prepare may write a data set. Another one is at work in {output}. Wait for it."
            ) from error
        except OSError as error:
            raise UserError(
                f"--output must be a folder that can be written. {output}: {error.strerror}. Name another one."
            ) from error
        yield
