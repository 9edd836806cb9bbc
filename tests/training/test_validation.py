import numpy as np
import pytest
import tensorflow as tf
from conftest import assert_same_end, checkpoint_values, quiet, read_events, share, small_config, write_pairs

from p2p_keras.config import read_config
from p2p_keras.errors import UserError
from p2p_keras.evaluation.records import read_records
from p2p_keras.training.run import train
from p2p_keras.training.validation import best_record, is_exhausted, value_of
from p2p_keras.workdir import checkpoints
from p2p_keras.workdir.history import read_history


def _history(*scores: float | None) -> list[dict]:
    return [
        {"step": i + 1} if score is None else {"step": i + 1, "evaluation": {"l1": score, "kid@768": -score}}
        for i, score in enumerate(scores)
    ]


def test_the_best_is_the_lowest_error_or_the_highest_likeness_and_the_first_of_equals():
    history = _history(0.5, None, 0.3, 0.4, 0.3)
    assert best_record(history, "l1")["step"] == 3
    assert best_record(history, "kid")["step"] == 1  # found under kid@768, lower is better
    assert best_record(
        [{"step": 1, "evaluation": {"ssim": 0.2}}, {"step": 2, "evaluation": {"ssim": 0.4}}], "ssim"
    ) == {
        "step": 2,
        "evaluation": {"ssim": 0.4},
    }
    assert best_record(history, "fid") is None
    assert value_of({"evaluation": {"kid_std@768": 1.0}}, "kid") is None


def test_patience_counts_evaluations_since_the_best():
    history = _history(0.5, 0.3, None, 0.4, None, 0.3)
    assert [is_exhausted(history, "l1", patience) for patience in (0, 1, 2, 3)] == [False, True, True, False]
    assert not is_exhausted(_history(0.5, 0.4, 0.3), "l1", 1)
    assert not is_exhausted([], "l1", 1)


@pytest.fixture(scope="module")
def evaluated(finished, one_device, tmp_path_factory):
    """The run of `finished`, with an evaluation after each of its two epochs."""
    _, data, _ = finished
    workdir, told = tmp_path_factory.mktemp("run"), []
    assert train(small_config(data, eval_every_epochs=1), workdir, one_device, told.append) is None
    return share(workdir), data, told


def test_each_evaluation_is_on_record_and_the_best_checkpoint_is_kept_apart(evaluated):
    workdir, _, told = evaluated
    history = read_history(workdir)
    assert [record["evaluation"]["count"] for record in history] == [3, 3]
    best = min(history, key=lambda record: record["evaluation"]["l1"])
    assert checkpoints.list_steps(workdir / "checkpoints") == [6]
    assert checkpoints.list_steps(workdir / "checkpoints" / "best") == [best["step"]]
    assert checkpoints.choose(workdir / "checkpoints", "best")[0][0] == best["step"]
    assert told[-1].startswith("Best:")
    records = read_records(workdir / "eval" / "val")
    assert [(r["step"], r["metrics"]["l1"]) for r in records] == [(r["step"], r["evaluation"]["l1"]) for r in history]
    assert records[0]["absent"]["fid"] == "the run has no --inception"
    assert (workdir / "eval" / "val" / "curves.png").exists()
    events = read_events(workdir / "summaries")
    for name in ("l1", "ssim"):
        written = [(step, float(tf.make_ndarray(value.tensor))) for step, value in events[f"val/{name}"]]
        # float32 there
        assert written == [(r["step"], pytest.approx(r["evaluation"][name], rel=1e-6)) for r in history]


def test_evaluations_change_nothing_in_what_is_trained(evaluated, finished):
    with_them, without = checkpoint_values(evaluated[0], 6), checkpoint_values(finished[0], 6)
    for name, value in with_them.items():
        np.testing.assert_array_equal(value, without[name], err_msg=name)


def test_an_interrupted_run_ends_with_the_same_evaluations_and_the_same_best(evaluated, one_device, tmp_path):
    workdir, data, _ = evaluated
    for steps in (4, 6):
        train(small_config(data, epochs=None, steps=steps, eval_every_epochs=1), tmp_path, one_device, quiet)
    one, other = (read_history(folder) for folder in (workdir, tmp_path))
    assert [record["evaluation"] for record in one] == [record["evaluation"] for record in other]
    best = [checkpoints.list_steps(folder / "checkpoints" / "best") for folder in (workdir, tmp_path)]
    assert best[0] == best[1]
    assert_same_end(workdir, tmp_path, 6)


def test_patience_ends_a_run_and_the_same_command_says_so_again(one_device, pairs_dir, tmp_path):
    workdir, told = tmp_path / "run", []
    # A learning rate too small to move a float32 weight, and statistics that don't move either: no evaluation can be
    # better than the first.
    config = small_config(
        pairs_dir, epochs=5, eval_every_epochs=1, patience=2, learning_rate=1e-30, statistics="per_image"
    )
    assert train(config, workdir, one_device, told.append) is None
    assert checkpoints.list_steps(workdir / "checkpoints") == [9]
    assert checkpoints.list_steps(workdir / "checkpoints" / "best") == [3]
    assert any("l1 has not improved in 2 evaluations. It was best at step 3" in line for line in told)
    told.clear()
    assert train(config, workdir, one_device, told.append) is None
    assert told[0].startswith("This run is finished: l1 has not improved in 2")
    assert checkpoints.list_steps(workdir / "checkpoints") == [9]
    assert read_config(workdir / "config.json")[0].patience == 2


def test_an_extractor_that_is_not_there_leaves_the_runs_settings_as_they_were(
    finished, finished_copy, one_device, tmp_path
):
    before = (finished_copy / "config.json").read_text()
    config = small_config(finished[1], epochs=3, eval_every_epochs=1, inception=str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"there is no such file"):
        train(config, finished_copy, one_device, quiet)
    assert (finished_copy / "config.json").read_text() == before


def test_without_pairs_to_score_nothing_starts(one_device, tmp_path):
    write_pairs(tmp_path / "data" / "train", 4)
    with pytest.raises(UserError, match=r"has neither val/ nor test/"):
        train(small_config(tmp_path / "data", eval_every_epochs=1), tmp_path / "run", one_device, quiet)
    assert checkpoints.list_steps(tmp_path / "run" / "checkpoints") == []
