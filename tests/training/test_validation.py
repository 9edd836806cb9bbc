import errno
import shutil

import numpy as np
import pytest
import tensorflow as tf
from conftest import (
    Eye,
    assert_same_end,
    checkpoint_values,
    quiet,
    read_events,
    share,
    small_config,
    write_pairs,
)

from p2p_keras.errors import UserError
from p2p_keras.evaluation.records import add_record, read_records
from p2p_keras.presets import make_config
from p2p_keras.training import validation
from p2p_keras.training.run import train
from p2p_keras.workdir import checkpoints
from p2p_keras.workdir.folder import read_config
from p2p_keras.workdir.history import read_history


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
    assert checkpoints.choose(workdir / "checkpoints", "best") == [best["step"]]
    assert told[-2].startswith("Best:")
    records = read_records(workdir / "eval" / "val")
    assert len({record["weights"] for record in records}) == 2
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


def test_a_metric_that_so_few_images_do_not_have_is_refused_before_anything_starts(finished, one_device, tmp_path):
    """KID needs four images: with three, no evaluation would ever be the best, and patience would never end the run."""
    settings = {"eval_every_epochs": 1, "patience": 1, "inception": "eye"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "load_extractor", lambda source, report: Eye(classes=None).extractor)
        with pytest.raises(UserError, match=r"--best_metric=kid needs at least 4 images\. val/ has 3"):
            train(small_config(finished[1], **settings), tmp_path / "run", one_device, lambda line: None)
        write_pairs(tmp_path / "data" / "train", 12)
        write_pairs(tmp_path / "data" / "val", 12)
        config = small_config(tmp_path / "data", best_metric="inception_score", **settings)
        with pytest.raises(UserError, match="--best_metric=inception_score needs a network with logits"):
            train(config, tmp_path / "run", one_device, lambda line: None)
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.slow
def test_where_an_evaluation_cannot_be_written_the_run_goes_on(pairs_dir, one_device, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", "eval")

    monkeypatch.setattr(validation, "add_record", refuse)
    told = []
    assert train(small_config(pairs_dir, epochs=1, eval_every_epochs=1), tmp_path, one_device, told.append) is None
    assert any(line.startswith("The evaluation at step 3 is in history.jsonl alone") for line in told)
    assert "l1" in read_history(tmp_path)[0]["evaluation"]
    assert checkpoints.list_steps(tmp_path / "checkpoints" / "best") == [3]


@pytest.mark.slow
def test_an_evaluation_that_decides_nothing_says_so(pairs_dir, one_device, tmp_path, monkeypatch):
    summarise, told = validation.scoring.summarise, []

    def without_psnr(*arguments):
        summary = summarise(*arguments)
        value = summary.metrics.pop("psnr")
        assert np.isfinite(value)
        return summary._replace(absent={**summary.absent, "psnr": "it is infinite for 1 image"})

    monkeypatch.setattr(validation.scoring, "summarise", without_psnr)
    config = small_config(pairs_dir, epochs=1, eval_every_epochs=1, best_metric="psnr")
    train(config, tmp_path, one_device, told.append)
    assert "The evaluation at step 3 decides nothing: PSNR is not known, for it is infinite for 1 image" in told
    assert checkpoints.list_steps(tmp_path / "checkpoints" / "best") == []


@pytest.mark.slow
def test_a_run_killed_before_its_first_rotating_checkpoint_continues_from_its_best(evaluated, one_device, tmp_path):
    """What is in best/ binds the run like any other checkpoint: other settings would mix two runs in one folder."""
    workdir, data, _ = evaluated
    config = small_config(data, eval_every_epochs=1)

    def killed():
        raise KeyboardInterrupt

    save_best = checkpoints.save_best
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "save_best", lambda *all_: (save_best(*all_), killed()))
        with pytest.raises(KeyboardInterrupt):
            train(config, tmp_path, one_device, lambda line: None)
    assert checkpoints.list_steps(tmp_path / "checkpoints") == []
    assert checkpoints.list_steps(tmp_path / "checkpoints" / "best") == [3]
    with pytest.raises(UserError, match="--seed was 0, is 1"):
        train(small_config(data, eval_every_epochs=1, seed=1), tmp_path, one_device, lambda line: None)
    train(config, tmp_path, one_device, lambda line: None)
    assert_same_end(workdir, tmp_path, 6)


@pytest.mark.slow
def test_another_best_metric_is_refused_while_a_best_is_kept(evaluated, one_device, tmp_path):
    workdir, data, _ = evaluated
    run = shutil.copytree(workdir, tmp_path / "run")
    more = {"epochs": 3, "eval_every_epochs": 1}
    with pytest.raises(UserError, match=r"It was l1, is ssim\. Give the old value, or remove .*checkpoints/best"):
        train(small_config(data, best_metric="ssim", **more), run, one_device, lambda line: None)
    with pytest.raises(UserError, match="It was l1, is ssim"):  # nor by way of a while without evaluations
        train(small_config(data, best_metric="ssim", epochs=3), run, one_device, lambda line: None)
    shutil.rmtree(run / "checkpoints" / "best")
    train(small_config(data, best_metric="ssim", **more), run, one_device, lambda line: None)
    # The best by SSIM of those that could still be kept, though an earlier one, whose weights are gone, may be better.
    assert checkpoints.list_steps(run / "checkpoints" / "best") == [9]


def test_an_extractor_that_is_given_later_leaves_the_best_to_the_metric_it_was_judged_by(evaluated):
    saved = read_config(evaluated[0] / "config.json")[0]
    assert saved.best_metric == "l1"
    assert make_config(saved=saved, inception="default").best_metric == "l1"


def test_what_was_compared_with_another_reference_judges_nothing(evaluated, tmp_path):
    """p2p-eval --reference=train on val/ leaves KIDs that are no match for those of training."""
    run = shutil.copytree(evaluated[0], tmp_path / "run")
    step = read_history(run)[0]["step"]
    (own,) = validation.find_evaluation(run, step)
    record = read_records(run / "eval" / "val")[0]
    record["pictures"]["reference"] = {"split": "train", "count": 12, "fingerprint": "f"}
    add_record(run / "eval" / "val", record)
    assert len(read_records(run / "eval" / "val")) == 3
    assert validation.find_evaluation(run, step) == [own]
