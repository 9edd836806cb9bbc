"""The commands as a user meets them: in processes of their own."""

import json
import os
import random
import re
import resource
import signal
import time

import pytest
from conftest import (
    DEADLINE_SECS,
    assert_refused,
    assert_same_end,
    call_command,
    run_command,
    start_command,
    wait_for,
    write_pairs,
)

from p2p_keras.cli import eval as eval_command
from p2p_keras.cli import train as train_command
from p2p_keras.errors import UserError
from p2p_keras.metrics import inception
from p2p_keras.presets import make_config
from p2p_keras.training import run
from p2p_keras.workdir.checkpoints import find_problem
from p2p_keras.workdir.folder import to_json

SMALL = ["--direction=AtoB", "--batch_size=4", "--image_size=32", "--base_filters=4", "--precision=float32"]


def test_help_is_documentation():
    done = run_command("train", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    for word in (
        "--data_dir",
        "--direction=a2s|s2a|AtoB|BtoA",
        "--max_bad_files",
        "the demo",
        "--[no]mirror",
        "--load_size=SIZE",
        "Default: 0.0006; paper: 0.0002",
    ):
        assert word in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--batchsize=3"], ["batchsize", "Did you mean: batch_size"]),
        (["--bogus=3"], ["Unknown command line flag 'bogus'. See"]),
        ([], ["--workdir alone continues a run, and there is none in", "--direction=a2s for the demo"]),
        (["--direction=up"], ["--direction=up", "a2s|s2a|AtoB|BtoA"]),
        (["--batch_size=many"], ["--batch_size=many"]),
        (["--epochs=1", "--steps=1"], ["--epochs or --steps"]),
        (["a2s"], ["takes flags only", "a2s"]),
        (["--data_dir=/no/such/folder"], ["--data_dir", "/no/such/folder"]),
        (["--preset=experiment9"], ["experiment1|experiment2"]),
    ],
)
def test_a_mistake_is_one_line_and_status_2(flags, words, tmp_path):
    done = run_command("train", *flags, f"--workdir={tmp_path / 'run'}")
    assert_refused(done, *words)
    assert done.stdout == ""


def test_an_empty_workdir_is_a_mistake_and_no_run_in_this_folder(tmp_path):
    with pytest.raises(UserError, match=r"--workdir is a folder's name\. Received none"):
        call_command(train_command, "--workdir=", "--steps=2", "--direction=a2s")


@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, 4])
def test_the_run_of_a_killed_process_ends_bit_equal_to_an_uninterrupted_one(tmp_path, kills):
    """kill -9 at random moments, the same command again, until it is through. float32 on one CPU device."""
    write_pairs(tmp_path / "data" / "train", 12)
    write_pairs(tmp_path / "data" / "val", 3, first_index=100)
    flags = [
        *SMALL,
        f"--data_dir={tmp_path / 'data'}",
        "--epochs=60",
        "--checkpoint_every_steps=40",
        "--keep_checkpoints=2",
        "--samples_every_epochs=10",
    ]
    done = run_command("train", *flags, f"--workdir={tmp_path / 'whole'}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "epoch 60/60" in done.stdout

    broken, killed = tmp_path / "broken", 0
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed of the moments: {seed}")  # shown when the test fails
    moments = random.Random(seed)
    for _ in range(kills):
        before = set(broken.glob("checkpoints/step_*"))
        process = start_command("train", *flags, f"--workdir={broken}")
        wait_for(lambda: set(broken.glob("checkpoints/step_*")) - before, process)  # noqa: B023  called at once
        time.sleep(moments.uniform(0, 0.3))
        process.kill()
        process.communicate(timeout=DEADLINE_SECS)
        killed += process.returncode == -signal.SIGKILL  # unless it was quicker, and through
    assert killed
    done = run_command("train", *flags, f"--workdir={broken}")
    assert (done.returncode, done.stderr) == (0, "")
    assert_same_end(tmp_path / "whole", broken, 180)


def test_a_demo_of_an_older_version_goes_on_by_its_own_command(tmp_path, monkeypatch):
    """Then it was cropped at random: what a flag is about may be the saved run's alone."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "a2s").mkdir(parents=True)
    began = json.loads(to_json(make_config("paper", direction="a2s", image_size=64, load_size=72, steps=4)))
    del began["config"]["jitter"]
    (tmp_path / "runs" / "a2s" / "config.json").write_text(json.dumps(began))
    asked = []
    monkeypatch.setattr(run, "train", lambda config, *_: asked.append(config))
    assert call_command(train_command, "--direction=a2s", "--load_size=72", "--steps=6") == 0
    assert [(config.jitter, config.load_size, config.steps) for config in asked] == [(True, (72, 72), 6)]


@pytest.mark.slow
def test_ctrl_c_saves_and_exits_without_a_traceback(tmp_path):
    write_pairs(tmp_path / "data" / "train", 12)
    workdir, scratch = tmp_path / "run", tmp_path / "scratch"
    scratch.mkdir()
    flags = [*SMALL, f"--data_dir={tmp_path / 'data'}", "--epochs=100000", f"--workdir={workdir}"]
    process = start_command("train", *flags, env={**os.environ, "TMPDIR": str(scratch)})
    for line in process.stdout:
        if line.startswith("epoch 2/"):
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=DEADLINE_SECS)
    assert process.returncode == 128 + signal.SIGINT
    assert err == ""
    assert "Stopped at step" in out
    assert list(scratch.iterdir()) == []  # AutoGraph's files have gone
    assert list((workdir / "checkpoints").glob("step_*"))


def test_an_unwritable_workdir_is_refused(tmp_path):
    write_pairs(tmp_path / "data" / "train", 12)
    (tmp_path / "file").write_text("")
    flags = [*SMALL, f"--data_dir={tmp_path / 'data'}", f"--workdir={tmp_path / 'file' / 'run'}"]
    with pytest.raises(UserError, match="--workdir"):
        call_command(train_command, *flags)


@pytest.mark.slow
def test_a_disk_that_runs_full_is_one_line_and_keeps_the_last_checkpoint(tmp_path):
    """A limit on file sizes, set below a checkpoint's while the process runs, stands in for the disk."""
    write_pairs(tmp_path / "data" / "train", 12)
    checkpoints = tmp_path / "run" / "checkpoints"
    flags = [*SMALL, f"--data_dir={tmp_path / 'data'}", f"--workdir={tmp_path / 'run'}"]
    often = ["--checkpoint_every_steps=20", "--keep_checkpoints=0", "--samples_every_epochs=100000"]
    process = start_command("train", *flags, "--epochs=100000", *often)
    wait_for(lambda: list(checkpoints.glob("step_*")), process)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (300_000, 300_000))
    _, err = process.communicate(timeout=DEADLINE_SECS)
    assert process.returncode == 2
    assert err.count("\n") == 1
    kept = sorted(path.name for path in checkpoints.iterdir())
    assert all(re.fullmatch("step_[0-9]{8}", name) for name in kept)
    assert f"step {int(kept[-1].removeprefix('step_'))} is kept" in err
    assert find_problem(checkpoints / kept[-1]) is None


def _evaluate(monkeypatch, tmp_path, *flags) -> int:
    """p2p-eval in this process, where the network's known places can be taken away."""
    monkeypatch.setattr(inception, "KNOWN_PLACES", ("http://127.0.0.1:1/inception.tgz",))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return call_command(eval_command, *flags)


def test_without_network_paired_metrics_are_scored_and_the_reason_stands_beside(
    finished_copy, tmp_path, monkeypatch, capfd
):
    assert _evaluate(monkeypatch, tmp_path, f"--workdir={finished_copy}", "--split=val") == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == f"{finished_copy}: AtoB, 3 images of val/"
    assert lines[1].split() == ["step", "epoch", "L1", "PSNR", "SSIM", "SD", "PSNR(xv)", "SSIM(xv)", "SD(xv)"]
    (absent,) = [line for line in lines if line.startswith("Absent: fid, kid, inception_score: ")]
    assert "Connection refused (127.0.0.1:1)" in absent
    assert absent.endswith("elsewhere and give it with --inception=FILE.")
    (record,) = json.loads((finished_copy / "eval" / "val" / "metrics.json").read_text())["records"]
    assert set(record["metrics"]) >= {"l1", "psnr", "ssim", "crossview_psnr"}
    assert not set(record["metrics"]) & {"fid", "kid"}
    assert "Connection refused" in record["absent"]["fid"]
    assert {path.name for path in (finished_copy / "eval" / "val").iterdir() if path.suffix} == {
        "metrics.json",
        "per_image.csv",
        "curves.png",
        "sheet.png",
    }


def test_an_empty_inception_is_none(finished_copy, capfd):
    """As it is to p2p-train."""
    flags = [f"--workdir={finished_copy}", "--split=val", "--inception="]
    assert call_command(eval_command, *flags) == 0
    assert (
        "Absent: fid, kid, inception_score: there is no Inception network, by --inception=\n" in capfd.readouterr().out
    )
    with pytest.raises(UserError, match="--require_inception is not for --inception="):
        call_command(eval_command, *flags, "--require_inception")


def test_where_the_extractor_is_required_nothing_is_scored_without(finished_copy, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="Connection refused"):
        _evaluate(monkeypatch, tmp_path, f"--workdir={finished_copy}", "--split=val", "--require_inception")
    with pytest.raises(UserError, match="there is no such file"):
        _evaluate(
            monkeypatch, tmp_path, f"--workdir={finished_copy}", "--split=val", f"--inception={tmp_path / 'none'}"
        )
    assert not (finished_copy / "eval" / "val" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "--workdir names the folder of a run"),
        (["--workdir=nowhere"], "There is none in nowhere"),
        (["--workdir=nowhere", "--limit=0"], "--limit must be at least 1. Received: 0"),
        (["--workdir=nowhere", "--split=dev"], "should be one of <train|val|test>"),
        (["--workdr=x"], "Did you mean: workdir"),
    ],
)
def test_p2p_eval_says_what_is_wrong_in_one_line(flags, words):
    assert_refused(run_command("eval", *flags), words)


@pytest.mark.parametrize("command", ["export", pytest.param("train", marks=pytest.mark.slow)])
def test_checkpoints_of_another_form_are_refused_in_one_line(finished_copy, tmp_path, command):
    config = finished_copy / "config.json"
    config.write_text(config.read_text().replace('"upsampling": "transposed"', '"upsampling": "resize"'))
    flags = {"export": f"--output={tmp_path / 'models'}", "train": "--steps=20"}[command]
    done = run_command(command, f"--workdir={finished_copy}", flags)
    assert_refused(done, "does not fit these networks", "shape")
    assert "value=[" not in done.stderr  # Keras would print the weights
