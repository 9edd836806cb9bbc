"""What NVIDIA's driver says, without TensorFlow: which GPUs there are, and why none can be used."""

import os
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

_ANSWER_SECS = 20  # a driver that is loading takes a few


class Gpu(NamedTuple):
    """A GPU as `nvidia-smi` names it."""

    name: str
    memory: int | None  # bytes; None where it does not tell


def list_gpus() -> list[Gpu]:
    """What `nvidia-smi` lists; empty if it is not there or does not work."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWER_SECS, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    found = re.findall(r"^(.+), *([^,]+?) *$", done.stdout, re.MULTILINE)
    return [Gpu(name, int(size) * 2**20 if size.isdecimal() else None) for name, size in found]


def why_unused(root: Path = Path("/")) -> str | None:
    """One line of the GPU that is there though TensorFlow lists none, and of the way out; None if there is none.

    None also where CUDA_VISIBLE_DEVICES hides all of them.

    Args:
        root: Where proc/ and dev/ lie.
    """
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is not None and (not shown.strip() or shown.strip().startswith("-")):
        return None
    gpus = list_gpus()
    if gpus:
        start = f"TensorFlow cannot use the GPU that nvidia-smi lists, {gpus[0].name}, and computes on the CPU. "
        if _cuda_is_installed():
            return (
                f"{start}CUDA's libraries are installed: TF_CPP_MIN_LOG_LEVEL=0 before the command shows what is wrong "
                "with them, most often a driver that is too old."
            )
        return f'{start}Install CUDA\'s libraries for it: pip install -e ".[gpu]"'
    signs = [root / "dev/nvidia0", *sorted((root / "proc/driver/nvidia/gpus").glob("*"))]
    there = next((sign for sign in signs if sign.exists()), None)
    if there is None:
        return None
    return (
        f"TensorFlow cannot use the GPU that is there ({there}), and computes on the CPU: nvidia-smi does not answer. "
        'Install NVIDIA\'s driver anew (start a container with --gpus all), then pip install -e ".[gpu]"'
    )


def _cuda_is_installed() -> bool:
    try:
        return bool(version("nvidia-cudnn-cu12"))  # what "tensorflow[and-cuda]" brings, beside others
    except PackageNotFoundError:
        return False
