"""How much memory there is, and how much a process has taken at most."""

import os
import re
import resource
import sys
from pathlib import Path

# What a container may take, by cgroup version 2 and 1; a number, or `max`.
_CGROUP_LIMITS = ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")


def of_machine(root: Path = Path("/")) -> int:
    """Bytes of memory that this process may have at most: the machine's, or less in a container.

    Args:
        root: Where sys/ lies.
    """
    limits = [text for text in (_read(root / name).strip() for name in _CGROUP_LIMITS) if text.isdecimal()]
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *map(int, limits)])


def peak(root: Path = Path("/")) -> int:
    """Bytes that were resident in this process at the most so far."""
    found = re.search(r"^VmHWM:\s*(\d+) kB$", _read(root / "proc/self/status"), re.MULTILINE)
    if found:
        return int(found.group(1)) * 2**10
    # What the system counts for a process begins with what its parent had, so it is the second choice.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 2**10)


def in_gib(size: float) -> str:
    """85899345920 -> `80.0 GiB`."""
    return f"{size / 2**30:.1f} GiB"


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
