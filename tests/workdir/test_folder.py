import pytest

from p2p_keras.config import TrainConfig
from p2p_keras.errors import UserError
from p2p_keras.workdir.folder import locked, read_config, saved_run, to_json


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--workdir"), locked(tmp_path / "file"):
        pass


def test_the_lock_goes_when_the_block_ends(tmp_path):
    for _ in range(2):
        with locked(tmp_path / "run"):
            assert (tmp_path / "run").is_dir()
            with pytest.raises(UserError, match="Another one is at work"), locked(tmp_path / "run"):
                pass


def test_a_saved_run_is_found_by_its_config(tmp_path):
    assert saved_run(tmp_path) is None
    (tmp_path / "config.json").write_text(to_json(TrainConfig(seed=5), more=1))
    config, record = saved_run(tmp_path)
    assert (config.seed, record["more"]) == (5, 1)
    (tmp_path / "config.json").unlink()
    (tmp_path / "checkpoints" / "step_00000001").mkdir(parents=True)
    with pytest.raises(UserError, match=r"config\.json"):  # not a folder to begin something else in
        saved_run(tmp_path)


def test_a_run_whose_best_checkpoint_alone_is_left_is_still_one(tmp_path):
    (tmp_path / "checkpoints" / "best" / "step_00000001").mkdir(parents=True)
    with pytest.raises(UserError, match=r"config\.json"):
        saved_run(tmp_path)


def test_a_config_that_is_nested_without_end_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(UserError, match="nested too deep"):
        read_config(tmp_path / "config.json")
