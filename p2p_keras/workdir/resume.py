"""From where a run continues, and what it finds in its folder that it cannot take or will make again."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from p2p_keras.errors import UserError
from p2p_keras.system.files import remove_folder
from p2p_keras.workdir import checkpoints


def newest_whole(directory: Path, report: Callable[[str], None] = print) -> Path | None:
    """Finds the checkpoint that a run continues from. For the one process that trains: it also tidies up.

    Damaged ones that are newer are renamed to `step_00001500.damaged`, so that the rotation does not take them for good
    ones. What a killed process was writing is removed.

    Args:
        directory: The run's `checkpoints/`.
        report: Called with one line for each damaged checkpoint that was set aside.

    Returns:
        Its folder, or None if there is no checkpoint at all.

    Raises:
        UserError: There are checkpoints, but all are damaged.
    """
    for place in (Path(directory), checkpoints.best_of(directory), checkpoints.snapshots_of(directory)):
        for leftover in place.glob(".step_*.part"):
            shutil.rmtree(leftover, ignore_errors=True)
    damaged = {}
    for step in reversed(checkpoints.all_steps(directory)):
        for path in checkpoints.places(directory, step):
            problem = checkpoints.find_problem(path)
            if problem is None:
                _set_aside(damaged, report)
                return path
            damaged[path] = problem
    if damaged:
        raise UserError(
            f"A run continues from a checkpoint, but all {len(damaged)} in {directory} are damaged. "
            "Remove that folder to begin again, or take another --workdir."
        )
    return None


def _set_aside(damaged: dict[Path, str], report: Callable[[str], None]) -> None:
    for path, problem in damaged.items():
        aside, number = path.with_name(f"{path.name}.damaged"), 1
        while aside.exists():  # a run has come by this step before, and what it left then is somebody's to look at
            number += 1
            aside = path.with_name(f"{path.name}.damaged{number}")
        path.rename(aside)
        report(f"Skipped the checkpoint of step {checkpoints.step_of(path)}: {problem}. It is now called {aside.name}")


def complete_save(checkpoint: tf.train.Checkpoint, directory: Path, step: int, keep: int, is_due: bool) -> None:
    """Does what a killed run had still to do of the save that it continues from.

    A run writes the best checkpoint, then the newest, and each time removes what that one replaces.

    Args:
        checkpoint: Restored from that save.
        directory: The run's `checkpoints/`.
        step: The save's.
        keep: Newest ones that stay; 0 keeps all.
        is_due: Whether one of this step belongs among the newest.

    Raises:
        UserError: It could not be written.
    """
    best, newest = checkpoints.path_of(checkpoints.best_of(directory), step), checkpoints.path_of(directory, step)
    if best.is_dir():
        earlier = [known for known in checkpoints.list_steps(best.parent) if known < step]
        is_missing = is_due and not newest.is_dir()
        if (earlier or is_missing) and checkpoints.find_problem(best) is None:
            for known in earlier:
                remove_folder(checkpoints.path_of(best.parent, known))
            if is_missing:
                twin = best if keep != 1 else None
                checkpoints.save(checkpoint, directory, step, keep, twin=twin)
    if newest.is_dir():
        checkpoints.rotate(directory, step, keep)


def set_aside_attempt(workdir: Path, report: Callable[[str], None] = print) -> None:
    """Moves what an earlier attempt has left into `before_<time>/`, for a run that is begun anew in the same folder.

    That is its samples, curves, history, summaries, snapshots and evaluations, with a copy of its `config.json`, so
    p2p-eval takes its snapshots there. What is known of the targets (`reference.npz`) stays: it is of the data.

    Args:
        workdir: The run's folder, in which there is no checkpoint.
        report: Called with a line that says where it is, or what could not be moved.
    """
    results = [path for path in workdir.glob("eval/*/*") if not path.name.startswith((".", "reference"))]
    shown = [*workdir.glob("samples/*"), *workdir.glob("snapshots/step_*"), *results, workdir / "history.jsonl"]
    if not any(path.exists() and path.stat().st_size for path in shown):
        return
    aside = _new_folder(workdir)
    rest = [workdir / name for name in ("samples", "snapshots", "summaries", "history.jsonl", "curves.png")]
    for path in [*results, *rest]:
        _move(path, aside / path.relative_to(workdir), report)
    if (workdir / "config.json").exists():
        shutil.copy2(workdir / "config.json", aside)
    report(f"What an earlier attempt left in {workdir} is now in {aside}")


def drop_later_snapshots(
    workdir: Path, step: int, comes_again: Callable[[int], bool], report: Callable[[str], None] = print
) -> None:
    """Removes the snapshots of later steps, so that all that are there are of the run as it goes on from here.

    Those that it will not make again move into `before_<time>/snapshots/` instead.

    Args:
        workdir: The run's folder.
        step: The step it continues from.
        comes_again: Whether a snapshot of a step will be made again.
        report: Called with a line that says how many there were.
    """
    folder = checkpoints.snapshots_of(workdir / "checkpoints")
    later = [known for known in checkpoints.list_steps(folder) if known > step]
    lost = [known for known in later if not comes_again(known)]
    for known in set(later) - set(lost):
        remove_folder(checkpoints.path_of(folder, known))
    if len(later) > len(lost):
        report(f"Removed {len(later) - len(lost)} snapshot(s) of steps after {step}: they are made again")
    if lost:
        aside = _new_folder(workdir)
        for known in lost:
            _move(checkpoints.path_of(folder, known), checkpoints.path_of(aside / "snapshots", known), report)
        shutil.copy2(workdir / "config.json", aside)
        report(f"{len(lost)} snapshot(s) of steps after {step} are now in {aside / 'snapshots'}")


def _new_folder(workdir: Path) -> Path:
    name, number = time.strftime("before_%Y%m%d_%H%M%S"), 1
    while True:
        folder = workdir / (name if number == 1 else f"{name}_{number}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            number += 1


def _move(path: Path, target: Path, report: Callable[[str], None]) -> None:
    """Moves a file or a folder, if it is there; what cannot be moved, as one of another user, stays."""
    if not path.exists():
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    except OSError as error:
        report(f"{path} is of an earlier attempt, but cannot be moved ({error.strerror or error})")
