import pytest

from p2p_keras.training.best import Standing, judge, value_of


def _history(*scores: float | None) -> list[dict]:
    return [
        {"step": i + 1} if score is None else {"step": i + 1, "evaluation": {"l1": score, "kid@768": -score}}
        for i, score in enumerate(scores)
    ]


def _judge(history: list[dict], metric: str = "l1", kept_step: int | None = 1) -> tuple[int, int]:
    standing = judge(history, metric, kept_step)
    return standing.best["step"], standing.since


def test_the_best_is_the_lowest_error_or_the_highest_likeness_and_the_first_of_equals():
    history = _history(0.5, None, 0.3, 0.4, 0.3)
    assert _judge(history) == (3, 2)
    assert _judge(history, "kid") == (1, 3)  # found under kid@768, lower is better
    likeness = [{"step": 1, "evaluation": {"ssim": 0.2}}, {"step": 2, "evaluation": {"ssim": 0.4}}]
    assert _judge(likeness, "ssim") == (2, 0)
    assert judge(history, "fid", 1) == judge([], "l1", 1) == Standing(None, 0)
    assert value_of({"evaluation": {"kid_std@768": 1.0}}, "kid") is None


def test_what_was_scored_before_the_kept_checkpoint_no_longer_counts():
    """Its weights are gone, so it cannot be the best: the metric was another one then, or best/ was removed."""
    history = _history(0.2, 0.5, 0.4, 0.6)
    assert _judge(history, kept_step=1) == (1, 3)
    assert _judge(history, kept_step=2) == (3, 1)
    assert _judge(history, kept_step=None) == (4, 0)


def test_evaluations_without_the_metric_do_not_count():
    assert _judge(_history(0.5, 0.3, None, 0.4, None, 0.3)) == (2, 2)


@pytest.mark.parametrize(
    ("metric", "other", "anew"),
    [
        ("l1", {"split": "test"}, 1),
        ("l1", {"fingerprint": "other images"}, 1),
        ("kid", {"extractor": "other network"}, 1),
        ("l1", {"extractor": "other network"}, None),  # which L1 does not see
        ("l1", {}, None),
    ],
)
def test_only_what_can_be_compared_is(metric, other, anew):
    """Two splits, or two networks of as many features, are two scales: a better number of the other says nothing."""
    known = {"split": "val", "fingerprint": "images", "extractor": "network", "count": 9}
    scores = [(1, 0.2, {}), (2, 0.5, other), (3, 0.4, other)]
    history = [
        {"step": step, "evaluation": {**known, **differs, "l1": score, "kid": score}} for step, score, differs in scores
    ]
    standing = judge(history[:2], metric, kept_step=1)
    assert (standing.anew, standing.best["step"]) == ((1, 2) if anew else (None, 1))
    standing = judge(history, metric, kept_step=2 if anew else 1)  # the checkpoint that is kept by then
    assert (standing.anew, standing.best["step"], standing.since) == ((None, 3, 0) if anew else (None, 1, 2))


def test_what_earlier_versions_did_not_write_down_is_taken_for_the_same():
    old = {"step": 1, "evaluation": {"split": "val", "count": 9, "l1": 0.2}}
    new = {"step": 2, "evaluation": {"split": "val", "count": 9, "fingerprint": "f", "extractor": None, "l1": 0.3}}
    assert judge([old, new], "l1", 1) == Standing(old, 1)


def test_a_kept_checkpoint_that_no_record_names_is_no_rival():
    history = _history(0.5, 0.4)
    assert judge([{**record, "step": record["step"] + 5} for record in history], "l1", 3).anew == 3


def test_of_a_kept_checkpoint_beyond_all_records_nothing_is_known():
    """history.jsonl lost its end, and eval/ as well."""
    history = _history(0.5, 0.4)
    assert judge(history, "l1", 9) == Standing(history[1], 0, 9)
