"""Records of evaluations as a person reads them: a table, and what should be read beside it."""

from p2p_keras.metrics.table import BY_NAME, Metric, in_order, split_label


def table(records: list[dict]) -> str:
    """The records of one run as lines of text, a row a checkpoint; KID is shown times 1000, as is customary."""
    rows = [["step", "epoch"], *([str(record["step"]), f"{record['epoch']:.4g}"] for record in records)]
    for name in in_order({name for record in records for name in record["metrics"]}):
        base, label = split_label(name)
        metric = BY_NAME[base]
        rows[0].append(metric.heading(metric.title, label))
        for row, record in zip(rows[1:], records, strict=True):
            row.append(_show(metric, record["metrics"].get(name), record["metrics"].get(f"{base}_std{label}")))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def remarks(record: dict) -> list[str]:
    """What should be read beside the numbers, a line each: cautions, and why which metrics are absent."""
    absent = {}
    for name, why in record["absent"].items():
        absent.setdefault(why, []).append(name)
    lines, reference = [], record.get("pictures", {}).get("reference")
    if reference and record["extractor"]:
        lines = [f"FID and KID compare with the {reference['count']:,} targets of {reference['split']}/"]
    return [
        *lines,
        *(f"Caution: {caution}" for caution in record["cautions"]),
        *(f"Absent: {', '.join(names)}: {why}" for why, names in absent.items()),
    ]


def _show(metric: Metric, value: float | None, deviation: float | None) -> str:
    if value is None:
        return "-"
    shown = f"{metric.scale * value:.{metric.decimals}f}"
    return shown if deviation is None else f"{shown} ± {metric.scale * deviation:.{metric.decimals}f}"
