import errno
import os
import subprocess
import sys

import pytest
from absl import flags
from conftest import raise_, run_command

from p2p_keras.cli import command
from p2p_keras.errors import UserError


def _status(main, monkeypatch, *arguments):
    values = flags.FlagValues()
    flags.DEFINE_integer("batch_size", None, "Pairs per step.", flag_values=values)
    monkeypatch.setattr(sys, "argv", ["p2p-some", *arguments])
    with pytest.raises(SystemExit) as end:
        command.run(main, values, "p2p-some does something.")
    return end.value.code


def test_flags_reach_the_command_and_its_status_is_the_process(monkeypatch):
    assert _status(lambda values: values["batch_size"].value, monkeypatch, "--batch_size=130") == 130
    assert _status(lambda values: None, monkeypatch) is None


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("a rule.\nIt was broken."), "p2p-some: a rule. It was broken.\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/a"),
            "p2p-some: runs/a: No space left on device. "
            "What was saved before is kept; mend it, then run the same again.\n",
        ),
    ],
)
def test_trouble_is_one_line_and_status_2(monkeypatch, capsys, error, line):
    assert _status(lambda values: raise_(error), monkeypatch) == 2
    assert capsys.readouterr() == ("", line)


def test_names_of_files_do_not_reach_the_terminal_as_commands(monkeypatch, capsys):
    def main(values):
        print("Left out \x1b]0;owned\x07.png")
        raise UserError("Mend \x1b[2J.png")

    assert _status(main, monkeypatch) == 2
    assert capsys.readouterr() == ("Left out \\x1b]0;owned\\x07.png\n", "p2p-some: Mend \\x1b[2J.png\n")


def test_ctrl_c_before_the_work_is_status_130_without_a_traceback(monkeypatch, capsys):
    assert _status(lambda values: raise_(KeyboardInterrupt()), monkeypatch) == 130
    assert capsys.readouterr().err.count("\n") == 2


def test_a_bug_keeps_its_traceback(monkeypatch):
    values = flags.FlagValues()
    monkeypatch.setattr(sys, "argv", ["p2p-some"])
    with pytest.raises(ZeroDivisionError):
        command.run(lambda values: 1 // 0, values, "")


def test_what_tensorflow_says_at_its_start_is_kept_for_a_failure(monkeypatch, capfd):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    with command.quiet_start():
        print("noise", file=sys.__stderr__, flush=True)
    assert capfd.readouterr().err == ""

    def fail():
        print("reason", file=sys.__stderr__, flush=True)
        raise ImportError

    with pytest.raises(ImportError), command.quiet_start():
        fail()
    assert "reason" in capfd.readouterr().err


@pytest.mark.parametrize("stopped", [KeyboardInterrupt, SystemExit])
def test_a_start_that_is_stopped_says_nothing(monkeypatch, capfd, stopped):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")

    def stop():
        print("noise", file=sys.__stderr__, flush=True)
        raise stopped

    with pytest.raises(stopped), command.quiet_start():
        stop()
    assert capfd.readouterr().err == ""


def test_a_reader_that_has_gone_is_no_trouble():
    read, write = os.pipe()
    os.close(read)
    done = run_command("prepare", "--help", stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


# Ends while a thread is at work, with something to do at the end, as AutoGraph's files to remove.
_LEAVES = """
import atexit
import threading
import time

from absl import flags
from p2p_keras.cli import command

atexit.register(print, "done at the end", flush=True)
threading.Thread(target=time.sleep, args=(3600,)).start()
command.run_and_leave(lambda _: 7, flags.FlagValues(), "p2p-some does something.")
"""


def test_a_command_that_leaves_does_what_is_to_be_done_and_waits_for_no_thread():
    done = subprocess.run([sys.executable, "-c", _LEAVES], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (7, "done at the end\n", "")


def test_without_a_standard_output_a_command_works_as_well():
    done = run_command("prepare", "--help", preexec_fn=lambda: os.close(1))
    assert (done.returncode, done.stderr) == (0, "")


def test_of_a_gpus_memory_a_command_takes_what_it_needs(monkeypatch):
    monkeypatch.setattr("sys.argv", ["p2p-train"])
    for name, value in (("TF_FORCE_GPU_ALLOW_GROWTH", None), ("TF_FORCE_GPU_ALLOW_GROWTH", "false")):
        monkeypatch.delenv(name, raising=False) if value is None else monkeypatch.setenv(name, value)
        seen = []
        with pytest.raises(SystemExit):
            command.run(lambda values, seen=seen, name=name: seen.append(os.environ[name]), flags.FlagValues(), "")
        assert seen == [value or "true"]


def test_help_shows_defaults_that_are_zero_and_fitting_placeholders():
    values = flags.FlagValues()
    flags.DEFINE_integer("seed", 0, "Seed.", flag_values=values)
    flags.DEFINE_bool("noise", False, "Draws noise.", flag_values=values)
    flags.DEFINE_string("splits", None, "Shares.", flag_values=values)
    flags.DEFINE_string("download", None, "An archive.", flag_values=values)
    flags.DEFINE_string("output", None, "Folder.", flag_values=values)
    text = command.help_text(values, "")
    assert "Seed. Default: 0." in text
    assert "noise. Default" not in text
    for line in ("--splits=TRAIN,VAL,TEST", "--download=NAME", "--output=PATH"):
        assert f"  {line}\n" in text


def test_numbers_agree_with_what_they_count():
    assert command.counted(1, "pair was", "pairs were") == "1 pair was"
    assert command.counted(0, "pair was", "pairs were") == "0 pairs were"


def test_a_path_that_is_a_url_is_refused_by_every_command(monkeypatch, capsys):
    values = flags.FlagValues()
    flags.DEFINE_list("workdir", None, "Folders.", flag_values=values)
    flags.DEFINE_string("data_dir", None, "A data set.", flag_values=values)
    monkeypatch.setattr(sys, "argv", ["p2p-some", "--data_dir=gs://b/data", "--workdir=runs/a,gs://b/run"])
    with pytest.raises(SystemExit) as end:
        command.run(lambda values: 0, values, "")
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("p2p-some: --workdir is a path on a disk; by URL only a data set is read")


def test_of_gs_is_read_what_is_asked_for_unless_somebody_says_otherwise(monkeypatch):
    for said, read in ((None, "0"), ("16", "16")):
        monkeypatch.delenv("GCS_READ_CACHE_BLOCK_SIZE_MB", raising=False)
        if said:
            monkeypatch.setenv("GCS_READ_CACHE_BLOCK_SIZE_MB", said)
        assert _status(lambda values: None, monkeypatch) is None
        assert os.environ["GCS_READ_CACHE_BLOCK_SIZE_MB"] == read
