"""Raw folders -> a checked data set of side-by-side pairs: the run of `p2p-prepare`.

`manifest.csv` and then `dataset.json` are written last: with them a data set is finished.
"""

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from p2p_keras.data import manifest
from p2p_keras.data.manifest import DESCRIPTION, MANIFEST, UNFINISHED, Entry
from p2p_keras.data.pairs import SPLITS
from p2p_keras.data.prepare import lists
from p2p_keras.data.prepare.duplicates import Alike, near_duplicates
from p2p_keras.data.prepare.earlier import Earlier, begin, count, is_finished, look_into, to_json
from p2p_keras.data.prepare.misaligned import find_misaligned
from p2p_keras.data.prepare.preview import draw_preview
from p2p_keras.data.prepare.shards import write_shards
from p2p_keras.data.prepare.sources import Found, made_from
from p2p_keras.data.prepare.splits import Splits
from p2p_keras.data.prepare.stack import FILTER, Form, entry_name
from p2p_keras.data.prepare.work import Rejected, Task, make_pairs
from p2p_keras.errors import UserError
from p2p_keras.images.files import write_png
from p2p_keras.sizes import Size
from p2p_keras.system import files
from p2p_keras.system.files import write_whole
from p2p_keras.system.progress import ProgressLine

PREVIEW = "preview.png"


class Outcome(NamedTuple):
    """What became of it."""

    counts: dict[str, int]  # split -> pairs
    made: int  # pairs that were not there before
    removed: int  # pairs that were there, and are no longer in the source
    rejected: list[Rejected]
    alike: list[Alike]
    shards: dict[str, int]  # shard -> bytes
    sizes: set[Size]  # of the panels
    misaligned: Sequence[str] = ()  # a line about each two panels of which some are
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
    settings, tasks = settings_of(found, form, rule, shards), tasks_of(splits, form)
    with locked_output(output):
        earlier = look_into(output, settings)
        if is_finished(output, earlier, tasks, form):
            return finished_before(output, earlier)
        if earlier.parts:
            raise UserError(
                f"{output} is being made in {earlier.parts} parts: run those that are missing, with --part, then "
                f"--merge. To make it in one go, remove {output} or name another --output."
            )
        check_unsharded(output, earlier, tasks)
        begin(output, earlier, settings)
        journal, believed = output / UNFINISHED / MANIFEST, earlier.believed
        entries, rejected = make_all(output, tasks, believed, output, form, journal, workers, max_bad_files)
        removed = remove_others(output, earlier.names, entries)
        outcome = complete(output, found, splits, form, settings, entries, rejected)
        return outcome._replace(made=count_new(entries, believed), removed=removed)


def settings_of(found: Found, form: Form, rule: dict[str, Any], shards: int) -> dict[str, Any]:
    """What a data set is begun with, and continues with."""
    settings = {"made_from": made_from(found.kind, found.folders), "panels": list(found.panels), **form.settings}
    return {**settings, "splits": rule, "shards": shards}


def tasks_of(splits: Splits, form: Form) -> list[Task]:
    """All pairs, in the order of the manifest."""
    tasks = [Task(source, split) for source, split in splits.split_of.items()]
    return sorted(tasks, key=lambda task: (SPLITS.index(task.split), entry_name(task.source, task.split, form)))


def finished_before(output: Path, earlier: Earlier) -> Outcome:
    """A data set that needs nothing any more: what may be left of its making is removed."""
    _clean_up(output, earlier.shards)
    counts = earlier.described["splits"]
    return Outcome(counts, 0, 0, earlier.rejected, [], earlier.shards, set(), finished_before=True)


def check_unsharded(output: Path, earlier: Earlier, tasks: Sequence[Task]) -> None:
    """Refuses to change a finished data set in shards."""
    if earlier.shards:
        raise UserError(
            f"Shards are not changed once they are made. {output} holds {len(earlier.listed)} pairs in shards; now "
            f"there are {len(tasks)}, or their files have changed. Name another --output."
        )


def complete(
    output: Path,
    found: Found,
    splits: Splits,
    form: Form,
    settings: dict[str, Any],
    entries: list[Entry],
    rejected: list[Rejected],
) -> Outcome:
    """Makes a data set of pairs that are all made: compares them, writes the lists, the shards and the manifest.

    Args:
        output: The data set's folder.
        found: From `sources`.
        splits: From `splits`.
        form: What the composites are like.
        settings: From `settings_of`.
        entries: All pairs, sorted; their composites lie loose, or in the shards of parts that the entries name.
        rejected: Those that cannot be made, sorted.

    Returns:
        What became of it, as if no pair were new.
    """
    alike = near_duplicates(entries)
    left_out = {**found.unmatched, **splits.left_out}
    misaligned, remarks = find_misaligned(entries, output, found.panels)
    lists.write_lists(output, rejected, left_out, alike, misaligned)
    if entries:
        write_png(output / PREVIEW, draw_preview(entries, output, found.panels))
    shards = settings["shards"]
    entries, sizes = write_shards(output, entries, shards) if shards else (entries, {})
    described = _describe(found, form, count(entries), len(rejected), len(left_out))
    finish(output, entries, {**described, "settings": settings, "shards": sizes})
    _clean_up(output, sizes)
    panel_sizes = {Size(entry.height, entry.width // len(found.panels)) for entry in entries}
    return Outcome(described["splits"], 0, 0, rejected, alike, sizes, panel_sizes, remarks)


def make_all(
    root: Path,
    tasks: Sequence[Task],
    believed: dict[str, Entry],
    state: Path,
    form: Form,
    journal: Path,
    workers: int,
    max_bad_files: int,
) -> tuple[list[Entry], list[Rejected]]:
    """Makes pairs, and writes each into a journal.

    Args:
        root: The folder of the composites.
        tasks: All that are to be made.
        believed: Those that need not be made again if their files are still as they were, by name.
        state: The folder for the list of those that cannot be made, if they are too many.
        form: What the composites are to be like.
        journal: The file of the journal, begun.
        workers: Processes.
        max_bad_files: Pairs that may be rejected before it stops.

    Returns:
        The pairs, and those that cannot be made, each sorted.

    Raises:
        UserError: Too many are bad.
    """
    tasks = [task._replace(known=believed.get(entry_name(task.source, task.split, form))) for task in tasks]
    entries, rejected = [], []
    progress = ProgressLine(len(tasks), "pairs")
    batches = make_pairs(tasks, root, form, workers)
    with open(journal, "a", encoding="utf-8") as lines, contextlib.closing(batches):
        for batch in batches:
            made = [result for result in batch if isinstance(result, Entry)]
            entries += made
            rejected += [result for result in batch if isinstance(result, Rejected)]
            with files.naming(journal):
                lines.write(manifest.format_lines(made))
                lines.flush()
            if len(rejected) > max_bad_files:
                progress.clear()
                raise too_many(state, rejected, max_bad_files)
            progress.update(len(entries) + len(rejected), f"{len(rejected)} rejected" if rejected else "")
    progress.clear()
    return in_order(entries, rejected)


def in_order(entries: Iterable[Entry], rejected: Iterable[Rejected]) -> tuple[list[Entry], list[Rejected]]:
    """Both as they are listed."""
    order = {split: number for number, split in enumerate(SPLITS)}
    return (
        sorted(entries, key=lambda entry: (order[entry.split], entry.pair)),
        sorted(rejected, key=lambda one: (order[one.split], one.pair)),
    )


def remove_others(output: Path, names: set[str], entries: Sequence[Entry]) -> int:
    """Removes composites of earlier calls that belong to no pair of now; returns how many there were."""
    others = [name for name in names - {entry.name for entry in entries} if (output / name).exists()]
    for name in others:
        (output / name).unlink()
    return len(others)


def count_new(entries: Sequence[Entry], believed: dict[str, Entry]) -> int:
    """How many pairs were not there before, or not like this."""
    before = {name: entry.sha256 for name, entry in believed.items()}
    return sum(before.get(entry.name) != entry.sha256 for entry in entries)


def _describe(found: Found, form: Form, counts: dict[str, int], rejected: int, left_out: int) -> dict[str, Any]:
    """What `dataset.json` says of the pairs."""
    # Without a size: what is trained at what size is then for p2p-train to say.
    size = {"image_size": form.image_size.plain} if form.image_size else {}
    return {
        "format": manifest.FORMAT,
        "panels": list(found.panels),
        **size,
        "channels": form.channels,
        "bits": form.bits,
        "splits": counts,
        "rejected": rejected,
        "left_out": left_out,
        "resizing": FILTER,
        "source": found.origin,
    }


def finish(output: Path, entries: Sequence[Entry], described: dict[str, Any]) -> None:
    """Writes the manifest and what describes it, when the disk has all that they speak of."""
    os.sync()  # once for all pairs, instead of waiting for the disk with each of them
    write_whole(output / MANIFEST, manifest.HEAD + manifest.format_lines(entries))
    write_whole(output / DESCRIPTION, to_json(described))


def _clean_up(output: Path, shards: dict[str, int]) -> None:
    for split in SPLITS:
        if shards:  # what is in shards need not lie loose as well
            shutil.rmtree(output / split, ignore_errors=True)
        for folder, _, _ in os.walk(output / split):
            files.remove_leftovers(Path(folder))
    files.remove_leftovers(output)
    shutil.rmtree(output / UNFINISHED, ignore_errors=True)


def too_many(output: Path, rejected: list[Rejected], max_bad_files: int) -> UserError:
    """The error, when the list of them is written."""
    lists.write_rejected(output, rejected)
    first = "; ".join(f"{one.pair}: {one.problem}" for one in rejected[:3])
    return UserError(
        f"More than {max_bad_files} pairs cannot be made: {first}{'; ...' if len(rejected) > 3 else ''}. All so far "
        f"are in {output / lists.REJECTED}. Mend or remove them, or allow more with --max_bad_files; the same command "
        "continues."
    )


@contextlib.contextmanager
def locked_output(output: Path, shared: bool = False) -> Iterator[None]:
    """Makes the folder if need be, and keeps a second p2p-prepare out of it; `shared`, only one that is not."""
    with contextlib.ExitStack() as stack:
        try:
            output.mkdir(parents=True, exist_ok=True)
            stack.enter_context(files.locked(output, wait=False, shared=shared))
        except BlockingIOError as error:
            raise UserError(
                f"Only one p2p-prepare may write a data set. Another one is at work in {output}. Wait for it."
            ) from error
        except OSError as error:
            raise UserError(
                f"--output must be a folder that can be written. {output}: {error.strerror}. Name another one."
            ) from error
        yield
