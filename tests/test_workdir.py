import pytest

from p2p_keras.config import TrainConfig, to_json
from p2p_keras.errors import UserError
from p2p_keras.workdir import append_history, keep_history, locked, read_history, saved_run, write_text


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--workdir"), locked(tmp_path / "file"):
        pass


def test_the_lock_goes_when_the_block_ends(tmp_path):
    for _ in range(2):
        with locked(tmp_path / "run"):
            assert (tmp_path / "run").is_dir()


def test_a_saved_run_is_found_by_its_config(tmp_path):
    assert saved_run(tmp_path) is None
    (tmp_path / "config.json").write_text(to_json(TrainConfig(seed=5), more=1))
    config, record = saved_run(tmp_path)
    assert (config.seed, record["more"]) == (5, 1)
    (tmp_path / "config.json").unlink()
    (tmp_path / "checkpoints" / "step_00000001").mkdir(parents=True)
    with pytest.raises(UserError, match=r"config\.json"):  # not a folder to begin something else in
        saved_run(tmp_path)


def test_history_keeps_only_the_steps_that_are_done(tmp_path):
    path = tmp_path / "history.jsonl"
    for step in (5, 10, 15):
        append_history(path, {"step": step})
    with open(path, "a") as file:
        file.write('{"step": 20, "cut\n')  # what a killed process may leave
    append_history(path, {"step": 8})  # a run that ended in the middle of an epoch and was then made longer
    keep_history(path, 10, steps_per_epoch=5)
    assert read_history(path) == [{"step": 5}, {"step": 10}]
    append_history(path, {"step": 15})
    assert [record["step"] for record in read_history(path)] == [5, 10, 15]


def test_write_text_replaces_whole_files_or_nothing(tmp_path):
    write_text(tmp_path / "a", "one")
    write_text(tmp_path / "a", "two")
    assert (tmp_path / "a").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    with pytest.raises(UserError, match="could not be written"):
        write_text(tmp_path / "none" / "a", "three")
