"""A version of an export: described by its `metadata.json`, and there with one rename.

Everything is written under a name that no server looks at, and checked there: TF Serving takes a numeric folder the
moment it is there.
"""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

from p2p_keras.config import TrainConfig, input_names
from p2p_keras.data.pairs import SPLITS
from p2p_keras.errors import UserError
from p2p_keras.evaluation.records import read_records
from p2p_keras.export.write import Trained
from p2p_keras.system.files import checksum, hidden_folder, sync_path, sync_tree
from p2p_keras.system.sealed import seal
from p2p_keras.versions import versions
from p2p_keras.workdir import checkpoints
from p2p_keras.workdir.folder import settings_of
from p2p_keras.workdir.generator import weights_checksum

METADATA = "metadata.json"


def publish(
    trained: Trained,
    output: Path,
    write: Callable[[Path], None],
    version: int | None = None,
    check: Callable[[Path], None] = lambda folder: None,
    noise: bool = False,
) -> Path:
    """Writes a version: beside, under a name that is no number, then with one rename as `<output>/<version>/`.

    Args:
        trained: What is written, for `metadata.json`.
        output: The folder of all versions.
        write: Makes the folder it is given and fills it.
        version: A number that is still free; None takes the next one.
        check: Given the finished folder before it gets its name; raises if anything is amiss.
        noise: Whether it draws noise, for `metadata.json`.

    Returns:
        The version's folder.

    Raises:
        UserError: The version exists, or the folder cannot be written.
    """
    _check_free(output, version)
    with contextlib.ExitStack() as stack:
        try:
            output.mkdir(parents=True, exist_ok=True)
            beside = stack.enter_context(hidden_folder(output)) / "version"
        except OSError as error:
            raise UserError(
                f"--output must be a folder that can be written. {output}: {error.strerror}. Name another one."
            ) from error
        try:
            write(beside)
            metadata = {**_describe(trained, noise), "sha256": _checksums(beside)}
            (beside / METADATA).write_text(json.dumps(seal(metadata), indent=2) + "\n")
            check(beside)
            sync_tree(beside)
            final = _give_number(beside, output, version)
        except (OSError, tf.errors.OpError) as error:
            problem = getattr(error, "strerror", None) or checkpoints.first_line(error)
            raise UserError(
                f"The export could not be written to {output}: {problem}. Nothing there has changed."
            ) from error
        try:
            sync_path(output)
        except OSError as error:
            raise UserError(f"{final} is whole, but the disk did not confirm its name: {error.strerror}") from error
        return final


def _give_number(folder: Path, output: Path, version: int | None) -> Path:
    while True:
        final = output / str(version or max([*list_versions(output), 0]) + 1)
        try:
            os.rename(folder, final)  # fails if it exists, for a version is never empty
            return final
        except OSError:
            _check_free(output, version)
            if not final.exists():
                raise


def list_versions(output: Path) -> list[int]:
    """The versions in a folder, ascending."""
    return sorted(int(path.name) for path in output.glob("[0-9]*") if path.name.isdecimal())


def _describe(trained: Trained, noise: bool) -> dict:
    """What is known about the model, beside its files."""
    weights = weights_checksum(trained.generator)  # not by the step: a run may have been begun anew
    records = [
        record
        for split in SPLITS
        for record in read_records(trained.workdir / "eval" / split)
        if record.get("weights") == weights
    ]
    kept = ("count", "metrics", "extractor", "pictures", "inference")
    return {
        "config": settings_of(trained.config),
        "step": trained.step,
        "inference": {
            "statistics": trained.config.statistics,
            "noise": noise,
            "precision": trained.config.precision,
        },
        **_describe_labels(trained.config),
        "evaluations": [{name: record[name] for name in kept if name in record} for record in records],
        "versions": versions(),
    }


def _describe_labels(config: TrainConfig) -> dict:
    """What a client cannot guess of label maps."""
    form = "grey PNG of 8 bits whose numbers are the classes 0 to {}"
    said = {}
    for name, classes in zip(input_names(config), config.labels or (), strict=False):
        if classes:
            key = f"{name}_bytes" if config.input_panels else "input_bytes"
            said[key] = form.format(classes - 1) + "; not indexed, for a graph cannot see palette entries"
    if config.output_labels:
        said["output_bytes"] = form.format(config.output_labels - 1)
    return said


def _check_free(output: Path, version: int | None) -> None:
    if version is not None and (output / str(version)).exists():
        raise UserError(
            f"A version is never overwritten. {output / str(version)} exists. "
            "Leave --version out for the next free one, or give another."
        )


def _checksums(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): checksum(path) for path in files}
