"""What an evaluation leaves in `eval/<split>/`: `metrics.json`, `per_image.csv`. New records join the earlier ones."""

import csv
import io
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from p2p_keras.config import TrainConfig, task_name
from p2p_keras.evaluation.scoring import Split, Summary, describe_extractor, fingerprint
from p2p_keras.metrics.inception import Extractor
from p2p_keras.metrics.table import BY_NAME
from p2p_keras.system.files import locked, naming, read_json, write_whole
from p2p_keras.system.sealed import is_number, seal, unseal
from p2p_keras.system.spreadsheets import as_cell
from p2p_keras.versions import versions

FORMAT = 1


def make_record(
    config: TrainConfig,
    step: int,
    epoch: float,
    weights: str,
    split: Split,
    summary: Summary,
    extractor: Extractor | None,
    reference: Split | None = None,
) -> dict:
    """What `metrics.json` says about one checkpoint: every number, and all that it depends on.

    Args:
        config: The run's settings.
        step: The checkpoint's.
        epoch: The same in epochs.
        weights: `weights_checksum` of the generator that was scored.
        split: The pairs.
        summary: The numbers.
        extractor: What the images were seen through, if it was used.
        reference: Whose targets FID and KID compare with, if not with the pairs' own. It stands among the pictures, so
            that such records are comparable with each other alone.
    """
    pictures = {}
    if reference:
        about = {"split": reference.name, "count": len(reference.files), "fingerprint": fingerprint(reference)}
        pictures = {"reference": about}
    return {
        "step": step,
        "epoch": epoch,
        "weights": weights,
        "count": len(split.files),
        **summary._asdict(),
        "extractor": describe_extractor(extractor),
        "pictures": {
            "split": split.name,
            "direction": task_name(config),
            "image_size": config.image_size.plain,
            "fingerprint": fingerprint(split),
            **pictures,
        },
        "inference": {"statistics": config.statistics, "noise": False, "precision": config.precision},
        "versions": versions(),
    }


def read_records(folder: Path) -> list[dict]:
    """The records of `metrics.json`, by step; none if there is no such file, or a damaged one.

    Damaged records are skipped.

    Raises:
        OSError: It is there, but cannot be read now.
    """
    return _load(folder)[0]


def add_record(
    folder: Path,
    record: dict,
    names: Sequence[str] = (),
    per_image: dict[str, np.ndarray] | None = None,
    report: Callable[[str], None] = print,
) -> None:
    """Puts a record into `metrics.json`, and a line for each image into `per_image.csv`.

    What is known of the same step but of other weights is of a run that was begun anew, or of an earlier version that
    did not write down which weights it scored: it goes. Of the same weights and images there is one record for each
    extractor; one without extractor never takes the place of one with, so that evaluating without network loses
    nothing.

    Args:
        folder: `eval/<split>`; made if need be.
        record: From `make_record`.
        names: Of the images.
        per_image: Metric -> value of each image; None leaves `per_image.csv` as it is.
        report: Called with one line for each file in which something was damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock", wait=True):  # a run in training may be writing its own records
        known, understood = _load(folder)
        if not understood:
            _put_aside(folder / "metrics.json", report)
        stale = any(_is_stale(other, record) for other in known)
        kept = [other for other in known if not _is_stale(other, record) and not _replaces(record, other)]
        if not any(_replaces(other, record) for other in kept):
            kept.append(record)
        kept.sort(key=lambda other: other["step"])
        _write_records(folder, kept)
        if per_image is not None:
            _add_per_image(folder / "per_image.csv", record["step"], names, per_image, stale, report)


def forget_later(workdir: Path, step: int, report: Callable[[str], None]) -> None:
    """Drops what was scored at later steps: a run that continues from here makes them again, or other ones.

    Args:
        workdir: The run's folder.
        step: The step it continues from; 0 if it is begun anew.
        report: Called with one line for each folder that cannot be changed, as one of another user, and for each file
            in which something was damaged.
    """
    for path in sorted((workdir / "eval").glob("*/metrics.json")):
        try:
            if any(record["step"] > step for record in read_records(path.parent)):
                _forget_later(path.parent, step, report)
        except OSError as error:
            report(f"What was scored after step {step} stays in {path.parent} ({error.strerror or error})")


def _forget_later(folder: Path, step: int, report: Callable[[str], None]) -> None:
    with locked(folder / ".lock", wait=True):
        columns, rows, understood = _read_rows(folder / "per_image.csv")
        if not understood:
            _put_aside(folder / "per_image.csv", report)
        if columns:  # first, for a kill between the two leaves what is done again at the next start
            _write_rows(folder / "per_image.csv", columns, [row for row in rows if int(row["step"]) <= step])
        records, understood = _load(folder)
        if not understood:
            _put_aside(folder / "metrics.json", report)
        _write_records(folder, [record for record in records if record["step"] <= step])


def comparable(records: list[dict], record: dict) -> list[dict]:
    """Those records that may stand on one curve with this one: of the same images, through the same extractor."""
    same = [known for known in records if known["pictures"] == record["pictures"]]
    extractor = record["extractor"] or next(
        (known["extractor"] for known in reversed(same) if known["extractor"]), None
    )
    return [known for known in same if _sha256(known) in (None, extractor and extractor["sha256"])]


def _load(folder: Path) -> tuple[list[dict], bool]:
    """The records of `metrics.json`, by step, and whether that is all that it holds."""
    parsed = _parse(folder)
    whole = [record for record in map(unseal, parsed or []) if record and _is_whole(record)]
    return whole, parsed is not None and len(whole) == len(parsed)


def _parse(folder: Path) -> list | None:
    """What `metrics.json` lists, whatever it is; nothing if there is no such file, None if it is damaged."""
    try:
        return list(read_json(folder / "metrics.json")["records"])
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (ValueError, KeyError, TypeError):
        return None


def _is_whole(record: dict) -> bool:
    kinds = {"step": int, "count": int, "metrics": dict, "pictures": dict}
    extractor = record.get("extractor", "")
    return (
        all(isinstance(record.get(name), kind) for name, kind in kinds.items())
        and {"split", "fingerprint"} <= record["pictures"].keys()
        and _has_reference(record["pictures"])
        and (extractor is None or (isinstance(extractor, dict) and isinstance(extractor.get("sha256"), str)))
        and all(map(is_number, [record.get("epoch"), *record["metrics"].values()]))
    )


def _has_reference(pictures: dict) -> bool:
    """Whether what is said of another reference is whole, if anything is."""
    reference = pictures.get("reference", {"count": 0, "split": ""})
    return isinstance(reference, dict) and isinstance(reference.get("count"), int) and "split" in reference


def _write_records(folder: Path, records: list[dict]) -> None:
    content = {"format": FORMAT, "records": [seal(record) for record in records]}
    write_whole(folder / "metrics.json", json.dumps(content, indent=2) + "\n")


def _add_per_image(
    path: Path,
    step: int,
    names: Sequence[str],
    per_image: dict[str, np.ndarray],
    forget: bool,
    report: Callable[[str], None],
) -> None:
    """Puts in a line for each image, in place of earlier ones of the same step and image, or of the step altogether."""
    names = [as_cell(name) for name in names]
    new = {(str(step), name) for name in names}
    columns, known, understood = _read_rows(path)
    if not understood:
        _put_aside(path, report)
    known = [{**row, "name": as_cell(row["name"])} for row in known]  # earlier versions wrote plain names
    rows = [r for r in known if (r["step"], r["name"]) not in new and not (forget and r["step"] == str(step))]
    for i, name in enumerate(names):
        scores = {metric: f"{values[i]:.6g}" for metric, values in per_image.items()}
        rows.append({"step": str(step), "name": name, **scores})
    _write_rows(path, list(dict.fromkeys(["step", "name", *per_image, *columns])), rows)


def _put_aside(path: Path, report: Callable[[str], None]) -> None:
    """Renames a file in which not all can be read, so that writing it anew destroys nothing."""
    aside, number = path.with_name(f"{path.name}.damaged"), 1
    while aside.exists():
        number += 1
        aside = path.with_name(f"{path.name}.damaged{number}")
    if path.exists() and path.stat().st_size:
        os.replace(path, aside)
        report(f"{path} is damaged; what can be read in it stays, and as it was it is now called {aside.name}")


def _read_rows(path: Path) -> tuple[list[str], list[dict[str, str]], bool]:
    """Columns and rows of `per_image.csv`, and whether that is all that it holds.

    There are none if there is no such file, or one of another kind.
    """
    if not path.is_file():  # or a pipe or a link to a device, which would never end
        return [], [], True
    try:
        with naming(path), open(path, newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.DictReader(file, restval="")
            rows, columns = list(reader), list(reader.fieldnames or [])
    except csv.Error:
        return [], [], False
    if columns[:2] != ["step", "name"]:
        return [], [], not columns
    good = [row for row in rows if None not in row and re.fullmatch("[0-9]{1,18}", row["step"])]
    return columns, good, len(good) == len(rows)


def _write_rows(path: Path, columns: list[str], rows: list[dict[str, str]]) -> None:
    rows.sort(key=lambda row: (int(row["step"]), row["name"]))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(path, text.getvalue().encode(errors="surrogateescape"))


def _is_stale(known: dict, new: dict) -> bool:
    if known["step"] != new["step"] or known.get("weights") == new["weights"]:
        return False
    if "weights" in known or known["pictures"] != new["pictures"]:
        return True
    # An earlier version did not write down the weights. They are the same if each image's scores have the same mean.
    paired = [name for name in known["metrics"] if name in BY_NAME and not BY_NAME[name].inception]
    return any(known["metrics"][name] != new["metrics"].get(name) for name in paired)


def _replaces(new: dict, old: dict) -> bool:
    same = new["step"] == old["step"] and new["pictures"] == old["pictures"]
    return same and (_sha256(new) == _sha256(old) or _sha256(old) is None)


def _sha256(record: dict) -> str | None:
    return record["extractor"]["sha256"] if record["extractor"] else None
