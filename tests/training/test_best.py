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
