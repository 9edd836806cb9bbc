"""What a run's folder says, as plain data: settings, history, evaluations, samples, findings."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from p2p_keras.config import TrainConfig
from p2p_keras.data.picture import ImageError, open_image
from p2p_keras.doctor.run import REPORT as DOCTOR
from p2p_keras.evaluation.records import comparable, read_records
from p2p_keras.report.pairs import SPLITS
from p2p_keras.report.pictures import LARGEST, embed_evenly
from p2p_keras.system.files import read_json
from p2p_keras.workdir.checkpoints import best_of, generator_steps, list_steps
from p2p_keras.workdir.folder import read_config, steps_per_epoch
from p2p_keras.workdir.history import read_history

_WIDEST, _HIGHEST = 1200, LARGEST  # pixels of a sample sheet, which is made smaller beyond


class Sample(NamedTuple):
    """A sample sheet of the run."""

    epoch: float
    title: str  # as `epoch 10`
    url: str  # the picture itself


class Diagnosis(NamedTuple):
    """What p2p-doctor wrote."""

    step: int
    findings: list[dict[str, str]]  # name, evidence, meaning, remedy
    skipped: list[dict[str, str]]  # name, reason


class Run(NamedTuple):
    """What is known of a run without computing anything."""

    name: str
    workdir: Path
    config: TrainConfig
    record: dict[str, Any]  # what else `config.json` says
    steps_per_epoch: int
    history: list[dict]
    evaluations: dict[str, list[dict]]  # split -> records on the same pictures as its newest, by step
    steps: list[int]  # of which the generator can be had
    best_step: int | None  # of the best checkpoint that is kept
    samples: list[Sample]
    sample_count: int  # that the folder holds
    diagnosis: Diagnosis | None
    why_no_diagnosis: str


def gather(workdir: Path, name: str, sample_bytes: int) -> Run:
    """Reads a run's folder. What is damaged in it is left out.

    Args:
        workdir: The run's folder.
        name: What the page calls the run.
        sample_bytes: Bytes that its sample sheets may take; if they are more, some are left out, evenly.

    Raises:
        UserError: It holds no run, or no readable `config.json`.
    """
    config, record = read_config(workdir / "config.json")
    steps = 1 if "imported" in record else steps_per_epoch(config, record, workdir / "config.json")
    evaluations = {}
    for split in SPLITS:
        if records := read_records(workdir / "eval" / split):
            evaluations[split] = comparable(records, records[-1])
    best = list_steps(best_of(workdir / "checkpoints"))
    samples, count = _samples(workdir / "samples", steps, sample_bytes)
    diagnosis, why = read_diagnosis(workdir)
    return Run(
        name,
        workdir,
        config,
        record,
        steps,
        read_history(workdir),
        evaluations,
        generator_steps(workdir / "checkpoints"),
        best[-1] if best else None,
        samples,
        count,
        diagnosis,
        why,
    )


def names_of(workdirs: list[Path]) -> list[str]:
    """What runs are called: the names of their folders, where those are equal with what comes before."""
    names = [workdir.resolve().name or str(workdir) for workdir in workdirs]
    return [name if names.count(name) == 1 else str(workdir) for name, workdir in zip(names, workdirs, strict=True)]


def read_diagnosis(workdir: Path) -> tuple[Diagnosis | None, str]:
    """What p2p-doctor found in a run, or why that is not known."""
    path = workdir / DOCTOR
    try:
        content = read_json(path)
        diagnosis = Diagnosis(
            content["step"],
            [_texts(finding, "name", "evidence", "meaning", "remedy") for finding in content["findings"]],
            [_texts(skipped, "name", "reason") for skipped in content["skipped"]],
        )
        if type(diagnosis.step) is not int:
            raise ValueError("its step is no whole number")
        return diagnosis, ""
    except FileNotFoundError:
        return None, f"p2p-doctor --workdir={workdir} looks for what went wrong."
    except (OSError, ValueError, KeyError, TypeError):
        return None, f"{DOCTOR} cannot be read: p2p-doctor --workdir={workdir} writes it anew."


def _texts(record: Any, *names: str) -> dict[str, str]:
    found = {name: record[name] for name in names}
    if not all(isinstance(value, str) for value in found.values()):
        raise ValueError("it is no text")
    return found


def _samples(folder: Path, steps_per_epoch: int, budget: int) -> tuple[list[Sample], int]:
    """The sample sheets of a run by their epochs, as many as there is room for, and how many there are."""
    found = []
    for path in folder.glob("*.png"):
        if named := re.fullmatch(r"(epoch|step)_([0-9]{1,9})\.png", path.name):
            kind, number = named[1], int(named[2])
            found.append((number / (steps_per_epoch if kind == "step" else 1), f"{kind} {number}", path))
    found.sort()
    taken, urls = embed_evenly(len(found), lambda number: _sheet(found[number][2]), budget)
    return [Sample(*found[number][:2], url) for number, url in zip(taken, urls, strict=True)], len(found)


def _sheet(path: Path) -> np.ndarray | None:
    try:
        with open_image(str(path), formats=("PNG",)) as image:
            share = min(_WIDEST / image.width, _HIGHEST / image.height)
            if share < 1:
                image = image.resize([max(1, round(share * side)) for side in image.size])
            return np.asarray(image.convert("RGB"))
    except ImageError:
        return None
