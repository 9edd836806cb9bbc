"""Which evaluation while training was the best, and for how long nothing has been better."""

from typing import NamedTuple

from p2p_keras.metrics.table import BY_NAME, split_label


class Standing(NamedTuple):
    """Where a run stands."""

    best: dict | None  # the record of `history.jsonl`; None if none was scored
    since: int  # evaluations after it, none of them better


def judge(history: list[dict], metric: str, kept_step: int | None) -> Standing:
    """Finds the best evaluation, the first of equals.

    Args:
        history: Records of `history.jsonl`, by step.
        metric: As in `--best_metric`; finds `kid@768` under `kid`.
        kept_step: Of the checkpoint that was kept as the best. What was scored before it was no better; without one
            only the newest record counts, since no other's weights can be had.
    """
    scored = [record for record in history if value_of(record, metric) is not None]
    scored = scored[-1:] if kept_step is None else [record for record in scored if record["step"] >= kept_step]
    sign = -1 if BY_NAME[metric].higher_is_better else 1
    best = min(scored, key=lambda record: sign * value_of(record, metric), default=None)
    return Standing(best, len(scored) - scored.index(best) - 1 if best else 0)


def value_of(record: dict, metric: str) -> float | None:
    """What an epoch scored by a metric; None if it was not scored by it."""
    found = [value for name, value in record.get("evaluation", {}).items() if split_label(name)[0] == metric]
    return found[0] if found else None
