"""Which evaluation while training was the best, and for how long nothing has been better."""

from typing import NamedTuple

from p2p_keras.metrics.table import BY_NAME, split_label


class Standing(NamedTuple):
    """Where a run stands."""

    best: dict | None  # the record of `history.jsonl`; None if none was scored
    since: int  # evaluations after it, none of them better
    anew: int | None = None  # step of the kept checkpoint, if the newest record cannot be compared with what it scored


def judge(history: list[dict], metric: str, kept_step: int | None) -> Standing:
    """Finds the best evaluation, the first of equals, of those that can be compared with the newest.

    Args:
        history: Records of `history.jsonl`, by step.
        metric: As in `--best_metric`; finds `kid@768` under `kid`.
        kept_step: Of the checkpoint that was kept as the best. What was scored before it was no better; without one
            only the newest record counts, since no other's weights can be had.
    """
    scored = [record for record in history if value_of(record, metric) is not None]
    if not scored:
        return Standing(None, 0)
    newest = scored[-1]
    if kept_step is None:
        return Standing(newest, 0)
    rivals = [
        r for r in scored if r["step"] >= kept_step and _is_comparable(r["evaluation"], newest["evaluation"], metric)
    ]
    known = any(record["step"] == kept_step for record in rivals)
    if not known:  # its weights are of another contest
        rivals = [newest]
    sign = -1 if BY_NAME[metric].higher_is_better else 1
    best = min(rivals, key=lambda record: sign * value_of(record, metric))
    return Standing(best, len(rivals) - rivals.index(best) - 1, None if known else kept_step)


def value_of(record: dict, metric: str) -> float | None:
    """What an epoch scored by a metric; None if it was not scored by it."""
    found = [value for name, value in record.get("evaluation", {}).items() if split_label(name)[0] == metric]
    return found[0] if found else None


def _is_comparable(one: dict, other: dict, metric: str) -> bool:
    """Whether two evaluations are of the same images, through the same network if the metric needs one.

    Earlier versions did not write all of that down: what is not known is taken for the same.
    """
    fields = ["split", "count", "fingerprint"] + (["extractor"] if BY_NAME[metric].inception else [])
    return all(one[field] == other[field] for field in fields if field in one and field in other)
