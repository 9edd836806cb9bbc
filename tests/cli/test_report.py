"""p2p-report as a user meets it."""

import json
import shutil

import pytest
from conftest import assert_refused, call_command, names, run_command

from p2p_keras.cli import report as report_command
from p2p_keras.errors import UserError


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--workdirs=a"], ["workdirs", "Did you mean: workdir"]),
        ([], ["--workdir names the folder of a run"]),
    ],
)
def test_a_mistake_is_one_line_and_status_2(flags, words):
    assert_refused(run_command("report", *flags), *words)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--workdir=a,b,c"], "or of two. Received: a,b,c"),
        (["--workdir=/no/such/run"], "There is none in /no/such/run"),
        (["--pairs=501"], "--pairs is a number from 0 to 500"),
        (["--checkpoint=all"], "shows pairs of one"),
        (["--checkpoint=newest"], "is latest, best, or a step: the page shows pairs of one. Received: newest"),
        (["--port=70000"], "0 to 65535"),
        (["--follow", "--output=a.html"], "Leave --output out"),
        (["--output=config.json"], "Received: config.json"),
        (["--output=no/such/a.html"], "There is none named no/such"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_loaded(flags, words, finished):
    workdir = [] if any("--workdir" in flag for flag in flags) else [f"--workdir={finished[0]}"]
    with pytest.raises(UserError, match=words):
        call_command(report_command, *workdir, *flags)


def test_a_run_that_cannot_be_written_to_is_said_before_anything_is_loaded(finished, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(UserError, match=r"cannot be written to\. Say where else: --output=report\.html"):
        call_command(report_command, f"--workdir={finished[0]}")


def test_the_same_command_twice_writes_one_page(finished_copy, capsys):
    before = set(names(finished_copy))
    for _ in range(2):
        assert call_command(report_command, f"--workdir={finished_copy}") == 0
    assert set(names(finished_copy)) == before | {"report.html"}
    page = (finished_copy / "report.html").read_text()
    assert page.count('class="pair') == 3
    assert f"Report: {finished_copy / 'report.html'}" in capsys.readouterr().out


def test_two_runs_and_data_that_are_gone(finished_copy, tmp_path, capsys):
    other = shutil.copytree(finished_copy, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["config"]["data_dir"] = str(tmp_path / "gone")
    (other / "config.json").write_text(json.dumps(config))
    call_command(report_command, f"--workdir={finished_copy},{other}", f"--output={tmp_path / 'two.html'}")
    assert f"The page shows no pairs of {other}: The run's data were in" in capsys.readouterr().out
    page = (tmp_path / "two.html").read_text()
    assert page.count('class="pair') == 3
    assert "which is not there. Say where: --data_dir=DATA" in page
    assert not (other / "report.html").exists()
