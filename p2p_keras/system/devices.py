"""Which devices a run uses, what they are, and at which precision they are fast."""

import os
import platform
import re
from collections import Counter
from pathlib import Path

import tensorflow as tf

from p2p_keras.system import memory, nvidia
from p2p_keras.system.hosts import cluster_resolver

_FAST_CPU_FLAGS = {"amx_bf16", "avx512_bf16"}


def make_strategy() -> tf.distribute.Strategy:
    """MirroredStrategy over all visible GPUs, or over the CPU devices where there is none; in a cluster over all hosts.

    Of a cluster it must be made before TensorFlow computes anything, and returns when all hosts are there. Between GPUs
    it reduces by NCCL, between CPUs by rings.
    """
    resolver = cluster_resolver()
    if resolver:
        nccl = bool(tf.config.list_physical_devices("GPU"))
        kinds = tf.distribute.experimental.CommunicationImplementation
        options = tf.distribute.experimental.CommunicationOptions(implementation=kinds.NCCL if nccl else kinds.RING)
        return tf.distribute.MultiWorkerMirroredStrategy(resolver, options)
    return tf.distribute.MirroredStrategy(local_devices())


def local_devices(strategy: tf.distribute.Strategy | None = None) -> list[str]:
    """Names of this host's GPUs that TensorFlow sees, or of its CPU devices where there is none.

    Args:
        strategy: That of the hosts, where there are several.
    """
    if strategy:
        return list(strategy.extended.worker_devices)
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [device.name for device in devices]


def count_devices() -> int:
    """Devices that `make_strategy` would take, without claiming any yet."""
    return len(tf.config.list_physical_devices("GPU")) or 1


def describe_devices() -> list[str]:
    """A line for each kind of device that a run computes on, and one if a GPU is there that TensorFlow cannot use."""
    gpus, memories = tf.config.list_physical_devices("GPU"), dict(nvidia.list_gpus())
    kinds = Counter(_describe_gpu(tf.config.experimental.get_device_details(gpu), memories) for gpu in gpus)
    lines = [f"GPU: {kind}" if count == 1 else f"{count} GPUs: {kind} each" for kind, count in kinds.items()]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()  # not on macOS
    fast = "fast at bfloat16" if _FAST_CPU_FLAGS & cpu_flags() else "not known to be fast at bfloat16"
    lines.append(
        f"CPU: {cpu_model()}, {cores} core{'s' if cores != 1 else ''}, {memory.in_gib(memory.of_machine())}, {fast}"
    )
    unused = None if gpus else nvidia.why_unused()
    return [*lines, unused] if unused else lines


def _describe_gpu(details: dict, memories: dict[str, int | None]) -> str:
    """Model, memory and compute capability, as far as they are known."""
    name, capability = details.get("device_name", "of unknown model"), details.get("compute_capability")
    size = memories.get(name)  # TensorFlow does not tell it; a part of a GPU (MIG) has another name than the whole
    parts = [name, size and memory.in_gib(size), capability and f"compute capability {capability[0]}.{capability[1]}"]
    return ", ".join(part for part in parts if part)


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
    return set(_cpu_says("flags", cpuinfo).split())


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The CPU's name, or its architecture where the system does not tell more."""
    return _cpu_says("model name", cpuinfo) or platform.processor() or platform.machine()


def _cpu_says(name: str, cpuinfo: Path) -> str:
    try:
        found = re.search(rf"^{name}\s*:(.*)$", cpuinfo.read_text(), re.MULTILINE)
    except OSError:
        return ""
    return found.group(1).strip() if found else ""
