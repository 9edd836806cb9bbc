"""With a stand-in for nvidia-smi on PATH, which says what the driver of some machine would."""

from importlib.metadata import PackageNotFoundError

import pytest
from conftest import raise_

from p2p_keras.system import nvidia
from p2p_keras.system.nvidia import Gpu, list_gpus, why_unused


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """Puts a script in the place of nvidia-smi."""
    (tmp_path / "tools").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'tools'}:/usr/bin:/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(nvidia, "version", lambda name: raise_(PackageNotFoundError(name)))

    def write(script: str) -> None:
        (tmp_path / "tools" / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "tools" / "nvidia-smi").chmod(0o755)

    write("exit 127")
    return write


def test_gpus_are_those_that_the_driver_lists(smi):
    assert list_gpus() == []
    smi("""[ "$1" = --query-gpu=name,memory.total ] && printf 'NVIDIA L4, 23034\\nNVIDIA GB10, [N/A]\\n'""")
    assert list_gpus() == [Gpu("NVIDIA L4", 23034 * 2**20), Gpu("NVIDIA GB10", None)]
    smi("echo 'NVIDIA L4, 23034'; exit 9")
    assert list_gpus() == []


def test_a_driver_that_does_not_answer_is_not_waited_for(smi, monkeypatch):
    monkeypatch.setattr(nvidia, "_ANSWER_SECS", 0.1)
    smi("exec sleep 60")
    assert list_gpus() == []


def test_a_gpu_without_cudas_libraries_is_said_with_what_installs_them(smi, monkeypatch, tmp_path):
    smi("echo 'NVIDIA L4, 23034'")
    assert why_unused(tmp_path).endswith('Install CUDA\'s libraries for it: pip install -e ".[gpu]"')
    assert "NVIDIA L4" in why_unused(tmp_path)
    monkeypatch.setattr(nvidia, "version", lambda name: "9.1")
    assert "TF_CPP_MIN_LOG_LEVEL=0" in why_unused(tmp_path)
    assert "\n" not in why_unused(tmp_path)


@pytest.mark.parametrize("sign", ["dev/nvidia0", "proc/driver/nvidia/gpus/0000:01:00.0"])
def test_a_gpu_without_a_driver_that_works_is_said_with_the_driver(smi, tmp_path, sign):
    assert why_unused(tmp_path) is None
    (tmp_path / sign).mkdir(parents=True)
    assert f"{tmp_path / sign}), and computes on the CPU: nvidia-smi does not answer" in why_unused(tmp_path)


@pytest.mark.parametrize(("shown", "hidden"), [("", True), ("-1", True), ("0", False), ("GPU-8a", False)])
def test_gpus_that_the_user_hides_are_not_missed(smi, monkeypatch, tmp_path, shown, hidden):
    smi("echo 'NVIDIA L4, 23034'")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    assert (why_unused(tmp_path) is None) == hidden
