"""The launchers in bin/, with an environment in which the commands only say what they were called with."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import DEADLINE_SECS, ROOT

COMMANDS = (
    "p2p-prepare",
    "p2p-train",
    "p2p-eval",
    "p2p-export",
    "p2p-translate",
    "p2p-import",
    "p2p-doctor",
    "p2p-report",
    "p2p-demo",
)
SAYS = '#!/bin/sh\necho "$(basename "$0") in $PWD"\nfor each in "$@"; do echo "<$each>"; done\n'


class Clone(NamedTuple):
    """A clone of the repository in a folder whose name has a space, and its environment."""

    root: Path
    venv: Path

    def run(self, *command: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess:
        environment = {**os.environ, "P2P_VENV": str(self.venv), **variables}
        return subprocess.run(
            command, cwd=cwd or self.root, env=environment, capture_output=True, text=True, timeout=DEADLINE_SECS
        )


def _write_smi(place: Path, script: str) -> None:
    (place / "tools" / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (place / "tools" / "nvidia-smi").chmod(0o755)


@pytest.fixture
def clone(tmp_path, monkeypatch) -> Clone:
    (tmp_path / "tools").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'tools'}:{os.environ['PATH']}")
    _write_smi(tmp_path, "exit 9")  # whatever the machine of the tests has
    root, venv = tmp_path / "my clone", tmp_path / "an environment"
    shutil.copytree(ROOT / "bin", root / "bin", symlinks=True)
    for name in ("requirements.txt", "setup.py"):
        shutil.copy(ROOT / name, root)
    (venv / "bin").mkdir(parents=True)
    for name in (*COMMANDS, "python", "pip", "ruff"):
        (venv / "bin" / name).write_text(SAYS)
        (venv / "bin" / name).chmod(0o755)
    for name in ("p2p-train", "p2p-report", "p2p-demo"):  # which install
        assert Clone(root, venv).run(f"bin/{name}").returncode == 0
    return Clone(root, venv)


def test_the_commands_are_one_script_by_their_names(clone):
    assert {name: os.readlink(ROOT / "bin" / name) for name in COMMANDS} == dict.fromkeys(COMMANDS, "launch")
    for name in COMMANDS:
        done = clone.run(f"bin/{name}", "--input=two words", "", "*")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines() == [f"{name} in {clone.root}", "<--input=two words>", "<>", "<*>"]
    done = clone.run("bin/launch")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("name", ["p2p-report", "p2p-demo"])
def test_help_installs_no_extra(clone, name):
    for stamp in clone.venv.glob(".p2p_keras-*"):
        stamp.unlink()
    for flag in ("--help", "-h", "--version"):
        done = clone.run(f"bin/{name}", flag)
        assert (done.stdout.splitlines(), done.stderr) == ([f"{name} in {clone.root}", f"<{flag}>"], "")
    assert "Installing" in clone.run(f"bin/{name}", "-host=::1").stderr  # which absl takes for --host


@pytest.mark.parametrize("name", ["p2p-eval", "p2p-translate"])
def test_from_wherever_it_is_called(clone, name, tmp_path):
    elsewhere, own = tmp_path / "else where", tmp_path / "own bin"
    for folder in (elsewhere, own):
        folder.mkdir()
    (own / name).symlink_to(clone.root / "bin" / name)
    (own / "short").symlink_to(own / name)
    (elsewhere / "bin").mkdir()  # what CDPATH would lead to
    path = os.environ["PATH"]
    for cwd, command, variables in (
        (clone.root, f"bin/{name}", {}),
        (clone.root, f"bin/{name}", {"CDPATH": str(elsewhere)}),
        (clone.root / "bin", f"./{name}", {}),
        (elsewhere, f"../my clone/bin/{name}", {}),
        (elsewhere, str(clone.root / "bin" / name), {}),
        (elsewhere, name, {"PATH": f"{clone.root}/bin:{path}"}),
        (clone.root, name, {"PATH": f"bin:{path}"}),
        (elsewhere, name, {"PATH": f"{own}:{path}"}),
        (elsewhere, "short", {"PATH": f"{own}:{path}"}),
    ):
        done = clone.run("bash", "-c", f"'{command}' --help", cwd=cwd, **variables)
        # It stays in the caller's folder: paths in flags are relative to it.
        assert (done.stdout, done.stderr) == (f"{name} in {cwd}\n<--help>\n", ""), (cwd, command)


def test_it_installs_what_is_not_installed_once(clone):
    assert clone.run("bin/p2p-train").stdout == f"p2p-train in {clone.root}\n"
    pinned = (clone.root / "requirements.txt").read_text()
    (clone.root / "requirements.txt").write_text(pinned + "more==1\n")
    for _ in range(2):
        done = clone.run("bin/p2p-eval")
    assert (done.stdout, done.stderr) == (f"p2p-eval in {clone.root}\n", "")

    moved = Clone(clone.root.rename(clone.root.with_name("moved")), clone.venv)
    done = moved.run("bin/p2p-eval")
    assert "Installing p2p_keras;" in done.stderr
    assert done.stdout.splitlines() == [
        f"python in {moved.root}",
        *("<-m>", "<pip>", "<install>", "<--quiet>", "<--disable-pip-version-check>"),
        *("<-c>", f"<{moved.root}/requirements.txt>", "<-e>", f"<{moved.root}>"),
        f"p2p-eval in {moved.root}",
    ]


def test_the_report_installs_what_it_takes_besides(clone):
    (clone.root / "requirements.txt").write_text("more==1\n")
    assert "Installing p2p_keras[report];" in clone.run("bin/p2p-report").stderr
    assert clone.run("bin/p2p-report").stdout == f"p2p-report in {clone.root}\n"  # once


def test_where_a_gpu_answers_it_installs_what_tensorflow_needs_for_it(clone, tmp_path):
    _write_smi(tmp_path, '[ "$1" = -L ] && echo "GPU 0: NVIDIA L4 (UUID: GPU-1)"')
    done = clone.run("bin/p2p-train")
    assert f"<{clone.root}[gpu]>" in done.stdout
    assert "Installing p2p_keras[gpu];" in done.stderr
    assert clone.run("bin/p2p-eval").stdout == f"p2p-eval in {clone.root}\n"  # once
    assert f"<{clone.root}[test,gpu]>" in clone.run("bin/test").stdout
    _write_smi(tmp_path, 'echo "No devices were found"')
    assert clone.run("bin/p2p-eval").stdout == f"p2p-eval in {clone.root}\n"  # which is installed, too


def test_what_could_not_be_installed_is_tried_again(clone):
    (clone.root / "setup.py").write_text("another")
    python = clone.venv / "bin" / "python"
    for _ in range(2):
        python.write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
        done = clone.run("bin/p2p-train")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.endswith("no network\n")
    python.write_text(SAYS)
    assert clone.run("bin/p2p-train").returncode == 0


@pytest.mark.slow
def test_an_environment_made_halfway_is_completed(clone):
    """As Ctrl-C leaves it: python is there before pip."""
    shutil.rmtree(clone.venv)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", clone.venv], check=True)
    done = clone.run("bin/p2p-train", PIP_NO_INDEX="1", PYTHON=sys.executable)
    assert "Making a virtual environment" in done.stderr
    assert clone.run(str(clone.venv / "bin" / "python"), "-m", "pip", "--version").returncode == 0


def test_without_a_python_it_says_which_it_needs(clone):
    shutil.rmtree(clone.venv)
    done = clone.run("bin/p2p-train", PYTHON="python0")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "needs Python 3.10 to 3.13" in done.stderr
    assert not clone.venv.exists()


def test_quickstart_trains_the_demo_in_the_clone(clone, tmp_path):
    done = clone.run(str(clone.root / "bin" / "quickstart"), cwd=tmp_path)
    *drawn, said, train, direction = done.stdout.splitlines()
    assert drawn == [f"python in {clone.root}", "<docs/town.py>", "<--output=runs/town.png>"]
    assert said.startswith("runs/town.png: ")
    assert [train, direction] == [f"p2p-train in {clone.root}", "<--direction=a2s>"]
    (clone.root / "runs").mkdir()
    (clone.root / "runs" / "town.png").touch()
    assert clone.run("bin/quickstart").stdout.splitlines() == [said, train, direction]  # it is drawn once
    assert clone.run("bin/quickstart", "--epochs=2").stdout.splitlines() == [train, direction, "<--epochs=2>"]


def test_quickstart_trains_even_if_it_cannot_draw(clone):
    (clone.venv / "bin" / "python").write_text("#!/bin/sh\nexit 1\n")
    done = clone.run("bin/quickstart")
    assert done.stdout.splitlines() == [f"p2p-train in {clone.root}", "<--direction=a2s>"]


def test_test_checks_style_and_runs_pytest_with_the_tests_own_packages(clone, tmp_path):
    done = clone.run(str(clone.root / "bin" / "test"), "-m", "slow", cwd=tmp_path)
    assert f"<{clone.root}[test]>" in done.stdout
    assert done.stdout.splitlines()[-16:] == [
        *(f"ruff in {clone.root}", "<check>", "<.>"),
        *(f"ruff in {clone.root}", "<format>", "<--check>", "<.>"),
        *(f"python in {clone.root}", "<-m>", "<pytest>", "<-n>", "<2>", "<--dist>", "<loadfile>", "<-m>", "<slow>"),
    ]
    (clone.venv / "bin" / "ruff").write_text("#!/bin/sh\nexit 1\n")
    assert clone.run("bin/test").returncode == 1
