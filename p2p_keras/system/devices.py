"""Which devices a run uses, and at which precision they are fast."""

import re
from pathlib import Path

import tensorflow as tf

_FAST_CPU_FLAGS = {"amx_bf16", "avx512_bf16"}


def make_strategy() -> tf.distribute.Strategy:
    """MirroredStrategy over all visible GPUs, or over the CPU devices where there is none."""
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def fast_precision() -> str:
    """`bfloat16` where every device of the run is fast at it, else `float32`.

    That is GPUs of compute capability 8.0 and up, and CPUs with AMX or AVX512-BF16; others emulate it, many times
    slower.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capabilities = [tf.config.experimental.get_device_details(gpu).get("compute_capability", (0,)) for gpu in gpus]
        return "bfloat16" if all(capability[0] >= 8 for capability in capabilities) else "float32"
    return "bfloat16" if _FAST_CPU_FLAGS & cpu_flags() else "float32"


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> set[str]:
    """What the CPU says it has; empty where the system does not tell (then float32 is the safe choice)."""
    try:
        found = re.search(r"^flags\s*:(.*)$", cpuinfo.read_text(), re.MULTILINE)
    except OSError:
        return set()
    return set(found.group(1).split()) if found else set()
