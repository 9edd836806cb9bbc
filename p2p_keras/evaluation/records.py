"""What an evaluation leaves in `eval/<split>/`: `metrics.json`, `per_image.csv`. New records join the earlier ones."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from p2p_keras.config import TrainConfig
from p2p_keras.evaluation.scoring import Split, Summary, describe_extractor, fingerprint
from p2p_keras.metrics.inception import Extractor
from p2p_keras.system.files import locked, write_whole
from p2p_keras.versions import versions

FORMAT = 1


def make_record(
    config: TrainConfig, step: int, epoch: float, split: Split, summary: Summary, extractor: Extractor | None
) -> dict:
    """What `metrics.json` says about one checkpoint: every number, and all that it depends on."""
    return {
        "step": step,
        "epoch": epoch,
        "count": len(split.files),
        **summary._asdict(),
        "extractor": describe_extractor(extractor),
        "pictures": {
            "split": split.name,
            "direction": config.direction,
            "image_size": config.image_size,
            "fingerprint": fingerprint(split),
        },
        "inference": {"statistics": config.statistics, "noise": False, "precision": config.precision},
        "versions": versions(),
    }


def read_records(folder: Path) -> list[dict]:
    """The records of `metrics.json`, by step; none if there is no such file, or one that cannot be read."""
    try:
        return json.loads((folder / "metrics.json").read_text())["records"]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def add_record(folder: Path, record: dict) -> None:
    """Puts a record into `metrics.json`: one for each step, set of pictures and extractor.

    A record without an extractor never takes the place of one with: nothing is lost by evaluating without network.

    Args:
        folder: `eval/<split>`; made if need be.
        record: JSON values, with at least `step`, `pictures` and `extractor`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock", wait=True):  # a run in training may be writing its own records
        records = [known for known in read_records(folder) if not _replaces(record, known)]
        if not any(_replaces(known, record) for known in records):
            records.append(record)
        records.sort(key=lambda known: known["step"])
        write_whole(folder / "metrics.json", json.dumps({"format": FORMAT, "records": records}, indent=2) + "\n")


def comparable(records: list[dict], record: dict) -> list[dict]:
    """Those records that may stand on one curve with this one: of the same pictures, through the same extractor."""
    same = [known for known in records if known["pictures"] == record["pictures"]]
    extractor = record["extractor"] or next(
        (known["extractor"] for known in reversed(same) if known["extractor"]), None
    )
    return [known for known in same if _sha256(known) in (None, extractor and extractor["sha256"])]


def table(records: list[dict]) -> str:
    """The records of one run as lines of text, a row a checkpoint; KID is shown times 1000, as is customary."""
    rows = [["step", "epoch"], *([str(record["step"]), f"{record['epoch']:.4g}"] for record in records)]
    for name, title, show in _COLUMNS:
        labels = sorted({found[len(name) :] for record in records for found in record["metrics"] if _is(found, name)})
        for label in labels:
            rows[0].append(title.format(label))
            for row, record in zip(rows[1:], records, strict=True):
                row.append(show(record["metrics"], label) if f"{name}{label}" in record["metrics"] else "-")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def remarks(record: dict) -> list[str]:
    """What should be read beside the numbers, a line each: cautions, and why which metrics are absent."""
    absent = {}
    for name, why in record["absent"].items():
        absent.setdefault(why, []).append(name)
    return [
        *(f"Caution: {caution}" for caution in record["cautions"]),
        *(f"Absent: {', '.join(names)}: {why}" for why, names in absent.items()),
    ]


def _is(found: str, name: str) -> bool:
    return found == name or found.startswith(f"{name}@")


_COLUMNS = [
    ("l1", "L1", lambda m, _: f"{m['l1']:.4f}"),
    ("psnr", "PSNR", lambda m, _: f"{m['psnr']:.2f}"),
    ("ssim", "SSIM", lambda m, _: f"{m['ssim']:.4f}"),
    ("sharpness_difference", "SD", lambda m, _: f"{m['sharpness_difference']:.2f}"),
    ("pixel_accuracy", "accuracy", lambda m, _: f"{m['pixel_accuracy']:.4f}"),
    ("mean_iou", "mIoU", lambda m, _: f"{m['mean_iou']:.4f}"),
    ("crossview_psnr", "PSNR(xv)", lambda m, _: f"{m['crossview_psnr']:.2f}"),
    ("crossview_sharpness_difference", "SD(xv)", lambda m, _: f"{m['crossview_sharpness_difference']:.2f}"),
    ("fid", "FID{}", lambda m, label: f"{m[f'fid{label}']:.3f}"),
    ("kid", "KID{} x1000", lambda m, label: f"{1e3 * m[f'kid{label}']:.2f} ± {1e3 * m[f'kid_std{label}']:.2f}"),
    (
        "inception_score",
        "IS{}",
        lambda m, label: f"{m[f'inception_score{label}']:.2f} ± {m[f'inception_score_std{label}']:.2f}",
    ),
]


def add_per_image(folder: Path, step: int, names: Sequence[str], per_image: dict[str, np.ndarray]) -> None:
    """Puts a line for each picture into `per_image.csv`, in place of earlier ones of the same step and picture."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock", wait=True):  # a run in training may be writing its own records
        path, new = folder / "per_image.csv", {(str(step), name) for name in names}
        header = ["step", "name", *per_image]
        rows = []
        if path.exists():
            with open(path, newline="") as file:
                found = list(csv.reader(file))
            if found[:1] == [header]:
                rows = [row for row in found[1:] if tuple(row[:2]) not in new]
        for i, name in enumerate(names):
            rows.append([str(step), name, *(f"{values[i]:.6g}" for values in per_image.values())])
        rows.sort(key=lambda row: (int(row[0]), row[1]))
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([header, *rows])
        write_whole(path, text.getvalue())


def _replaces(new: dict, old: dict) -> bool:
    same = new["step"] == old["step"] and new["pictures"] == old["pictures"]
    return same and (_sha256(new) == _sha256(old) or _sha256(old) is None)


def _sha256(record: dict) -> str | None:
    return record["extractor"]["sha256"] if record["extractor"] else None
