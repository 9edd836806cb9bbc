import pytest
from conftest import assert_refused, names, run_command, small_config

from p2p_keras.errors import UserError
from p2p_keras.training import estimate
from p2p_keras.training.estimate import Line, estimate_memory, fit_line, table

GIB = 2**30


def test_the_line_goes_through_the_two_largest_sizes():
    assert fit_line({1: 9, 2: 10, 4: 14}) == Line(fixed=6, pair=2)
    assert fit_line({1: 3}) is None
    assert fit_line({1: 1, 4: 3, 8: 3}) is None  # nothing that grows


@pytest.mark.parametrize(
    ("limit", "unit", "largest"), [(10, 1, 4), (10.9, 1, 4), (11, 1, 4), (12, 1, 5), (10, 3, 3), (3, 1, 0), (1, 1, 0)]
)
def test_the_largest_stays_within_the_limit(limit, unit, largest):
    assert Line(fixed=2, pair=2).largest(limit, unit) == largest


def test_the_table_says_what_fits():
    measured = {1: 5 * GIB, 4: 6.5 * GIB, 8: 10 * GIB}
    assert table(measured, limit=28.2 * GIB, unit=1, count=1000) == [
        "batch size     memory",
        "         1    5.0 GiB  measured",
        "         2    5.5 GiB",
        "         4    6.5 GiB  measured",
        "         8   10.0 GiB  measured",
        "        16   17.0 GiB",
        "        32   31.0 GiB  too much",
        "The largest that fits is about 25: of 28.2 GiB, 10% are left free.",
    ]


def test_the_table_ends_where_the_pairs_do():
    measured = {size: (2 + size) * GIB for size in (1, 4, 8)}
    assert table(measured, 30 * GIB, unit=1, count=12)[-2:] == [
        "         8   10.0 GiB  measured",
        "The largest that fits is about 12: of 30.0 GiB, 10% are left free.",
    ]


def test_what_ran_out_of_memory_counts_as_too_much():
    lines = table({2: 3 * GIB, 8: 9 * GIB, 16: None}, 30 * GIB, unit=2, count=1000)
    assert lines[-2:] == [
        "        16          ?  measured, too much",
        "The largest that fits is about 14: of 30.0 GiB, 10% are left free.",
    ]
    assert table({1: None}, 2 * GIB, unit=1, count=1000)[-1].startswith("None fits into 2.0 GiB. Lower")


def test_without_a_limit_it_says_so():
    lines = table({1: GIB, 4: 2 * GIB}, None, unit=1, count=8)
    assert "too much" not in " ".join(lines)
    assert "not known: nvidia-smi does not say" in lines[-1]


@pytest.mark.parametrize("prepared", [False, True])
def test_what_is_measured_is_a_short_run_with_the_users_settings(pairs_dir, tmp_path, monkeypatch, prepared):
    """Batches of as many pairs as all devices and parts need; no larger ones than there are pairs.

    A run on prepared data has nothing to remember of its check.
    """
    asked, told = [], []

    def measure(config, folder):
        asked.append((config, (folder / "data_check.json").is_file()))
        (folder / "config.json").write_text(estimate.to_json(config, data={"counts": {"train": 20}}))
        if not prepared:
            (folder / "data_check.json").write_text("{}")
        return (config.batch_size + 1) * GIB

    monkeypatch.setattr(estimate, "_measure", measure)
    monkeypatch.setattr(estimate, "count_devices", lambda: 2)
    monkeypatch.setattr(estimate, "_limit", lambda: 100 * GIB)
    config = small_config(pairs_dir, accumulate=1, decay_epochs=2, eval_every_epochs=1, patience=1, lambda_l1=7)
    estimate_memory(config, tmp_path / "run", told.append)
    assert [(config.batch_size, checked) for config, checked in asked] == [(2, False), (16, not prepared)]
    for config, _ in asked:
        assert (config.steps, config.epochs, config.eval_every_epochs, config.lambda_l1) == (3, None, 0, 7)
    assert [line.split()[0] for line in told] == ["Measuring", "batch", "2", "4", "8", "16", "The"]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_settings_that_no_run_could_have_are_refused_as_by_a_run(tmp_path):
    done = run_command("train", "--estimate_memory", f"--data_dir={tmp_path / 'none'}", f"--workdir={tmp_path / 'run'}")
    assert_refused(done, "--data_dir must be a folder", str(tmp_path / "none"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("status", "expected"), [*((status, None) for status in (3, -6, -9, -11)), (0, 12345), (2, UserError)]
)
def test_how_a_measuring_process_ended_says_what_it_found(pairs_dir, tmp_path, monkeypatch, status, expected):
    class Done:
        returncode, stdout, stderr = status, "12345\n", "noise\nA rule. Received: x\n"

    monkeypatch.setattr(estimate.subprocess, "run", lambda *arguments, **more: Done)
    if expected is UserError:
        with pytest.raises(UserError, match=r"^A rule\. Received: x$"):
            estimate._measure(small_config(pairs_dir), tmp_path)
    else:
        assert estimate._measure(small_config(pairs_dir), tmp_path) == expected


@pytest.mark.slow
def test_a_run_is_measured_and_leaves_nothing(pairs_dir, tmp_path):
    flags = [
        f"--data_dir={pairs_dir}",
        "--direction=AtoB",
        "--image_size=32",
        "--base_filters=4",
        "--precision=float32",
    ]
    done = run_command("train", "--estimate_memory", *flags, f"--workdir={tmp_path / 'run'}")
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[0] for line in lines] == ["Measuring", "batch", "1", "2", "4", "8", "The"]
    assert 0.3 < float(lines[2].split()[1]) < 3  # TensorFlow alone is about half a GiB
    assert names(tmp_path) == ["data"]
