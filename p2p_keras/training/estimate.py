"""Which batch sizes fit into a device's memory: measured of a few, on the user's data; the others by a line."""

import dataclasses
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from p2p_keras.config import TrainConfig
from p2p_keras.errors import UserError
from p2p_keras.system import memory, nvidia
from p2p_keras.system.devices import count_devices
from p2p_keras.training.run import train
from p2p_keras.workdir.folder import read_config, to_json

# Pairs that a device computes at once, measured. Of the paper's networks on a CPU, writing the checkpoint takes more
# memory than a step of up to 8 pairs, so a line through smaller sizes than these would foretell too little.
SIZES = (1, 8, 16)
_STEPS = 3  # the first call takes one, and a checkpoint and samples follow the last
_SPARE = 0.1  # of a device's memory: for the system, for CUDA itself, and because a line is an estimate
_TOO_MUCH = 3  # exit status of a measuring process whose memory ran out


class Line(NamedTuple):
    """Memory of a device by the batch size, bytes: `fixed + pair * batch_size`."""

    fixed: float
    pair: float

    def largest(self, limit: float, unit: int) -> int:
        """The largest multiple of `unit` that stays below `limit` bytes; 0 if there is none."""
        return max(0, int((limit - self.fixed) / self.pair / unit)) * unit


def fit_line(measured: dict[int, int]) -> Line | None:
    """The line through bytes by batch size, of the two largest sizes; None if memory does not grow from one to the
    other.
    """
    if len(measured) < 2:
        return None
    (size, small), (larger, large) = sorted(measured.items())[-2:]
    pair = (large - small) / (larger - size)
    return Line(large - pair * larger, pair) if pair > 0 else None


def estimate_memory(config: TrainConfig, workdir: Path, report: Callable[[str], None] = print) -> None:
    """Reports a table of batch sizes and the memory of a device that a run with these settings takes.

    Each size that is measured takes some steps, a checkpoint and a sample grid, in a process and a folder of its own
    that are gone afterwards. Evaluations while training (`--eval_every_epochs`) are not measured. On a GPU it is the
    peak of TensorFlow's allocator, on a CPU that of the process's resident memory.

    Args:
        config: The run's settings; its batch size plays no part.
        workdir: The run's folder. If it is one, its data need not be checked again.
        report: Called with each line.

    Raises:
        UserError: No run is possible with these settings, whatever the batch size.
    """
    unit = count_devices() * config.accumulate
    sizes = [size * unit for size in SIZES]
    report(f"Measuring batch sizes {', '.join(map(str, sizes))}, {_STEPS} steps of each")
    measured: dict[int, int | None] = {}
    with tempfile.TemporaryDirectory(prefix="p2p-train-") as place:
        checked, count = workdir / "data_check.json", max(sizes)
        for batch_size in sizes:
            if batch_size > count or None in measured.values():
                break
            folder = Path(place) / str(batch_size)
            folder.mkdir()
            if checked.is_file():
                shutil.copy(checked, folder)
            measured[batch_size] = _measure(_short(config, batch_size), folder)
            count = read_config(folder / "config.json")[1].get("data", {}).get("counts", {}).get("train", count)
            if (folder / "data_check.json").exists():  # of prepared data there is none
                checked = (folder / "data_check.json").replace(Path(place) / "data_check.json")
            shutil.rmtree(folder)  # with its checkpoint
    for line in table(measured, _limit(), unit, count):
        report(line)


def table(measured: dict[int, int | None], limit: int | None, unit: int, count: int) -> list[str]:
    """The lines that say which batch sizes fit.

    Args:
        measured: Bytes by batch size; None where memory ran out.
        limit: Bytes of a device, if known.
        unit: What every batch size is a multiple of.
        count: Training pairs, more than which no batch has.
    """
    fitting = {batch_size: peak for batch_size, peak in measured.items() if peak is not None}
    line, most = fit_line(fitting), (1 - _SPARE) * limit if limit else None
    largest = min([size - unit for size, peak in measured.items() if peak is None] or [count // unit * unit])
    if line and most:
        largest = min(largest, line.largest(most, unit))
    rows, size = ["batch size     memory"], unit
    while size <= count and size <= max(2 * largest, *measured):
        if size <= max(fitting, default=0):
            peak = np.interp(size, list(fitting), list(fitting.values()))
        else:
            peak = line.fixed + line.pair * size if line and size not in measured else None
        shown = memory.in_gib(peak) if peak else "?"
        notes = [*(["measured"] if size in measured else []), *(["too much"] if size > largest else [])]
        rows.append(f"{size:10}  {shown:>9}  {', '.join(notes)}".rstrip())
        size *= 2
    if not largest:
        return [
            *rows,
            f"None fits into {memory.in_gib(limit)}. Lower --image_size or --base_filters.",
        ]
    if not limit:
        return [*rows, "How much memory the device has is not known: nvidia-smi does not say."]
    return [*rows, f"The largest that fits is about {largest}: of {memory.in_gib(limit)}, {_SPARE:.0%} are left free."]


def _limit() -> int | None:
    """Bytes of memory that a device has: the smallest GPU, or the machine's where there is none."""
    if not tf.config.list_physical_devices("GPU"):
        return memory.of_machine()
    return min((gpu.memory for gpu in nvidia.list_gpus() if gpu.memory), default=None)


def _short(config: TrainConfig, batch_size: int) -> TrainConfig:
    """The run that is measured."""
    nothing = {"decay_epochs": 0, "eval_every_epochs": 0, "inception": None, "best_metric": "", "patience": 0}
    return dataclasses.replace(config, batch_size=batch_size, epochs=None, steps=_STEPS, **nothing)


def _measure(config: TrainConfig, folder: Path) -> int | None:
    """Trains in a new process; its peak of memory in bytes, or None if that ran out.

    Raises:
        UserError: As of `train`.
    """
    (folder / "config.json").write_text(to_json(config))
    command = [sys.executable, "-m", "p2p_keras.training.estimate", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 2:
        raise UserError(done.stderr.splitlines()[-1])
    # The kernel kills where it has promised too much; libraries abort or crash where they get none (ulimit -v).
    if done.returncode in (_TOO_MUCH, -signal.SIGABRT, -signal.SIGSEGV, -signal.SIGKILL):
        return None
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}: {done.stderr}")
    return int(done.stdout)


def main(folder: Path) -> int:
    """What the measuring process does: trains the run that a folder's `config.json` describes, prints its peak."""
    config, _ = read_config(folder / "config.json")
    try:
        train(config, folder, report=lambda line: None)
    except UserError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        return _TOO_MUCH if isinstance(error.__cause__, tf.errors.ResourceExhaustedError | MemoryError) else 2
    gpus = tf.config.list_logical_devices("GPU")
    peaks = [tf.config.experimental.get_memory_info(gpu.name.removeprefix("/device:"))["peak"] for gpu in gpus]
    print(max(peaks, default=0) or memory.peak())
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
