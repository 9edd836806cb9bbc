import os
import subprocess
import sys

import pytest
from conftest import ROOT

from p2p_keras.system import memory

MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
def test_a_container_has_what_it_may_take(tmp_path, name):
    assert memory.of_machine(tmp_path) == MACHINE
    path = tmp_path / "sys/fs/cgroup" / name
    path.parent.mkdir(parents=True)
    for text, expected in (("max\n", MACHINE), ("1048576\n", 2**20), ("9223372036854771712\n", MACHINE)):
        path.write_text(text)
        assert memory.of_machine(tmp_path) == expected


def test_the_peak_is_what_was_resident_at_the_most(tmp_path):
    """200 MB that are written to and given back, in a process of its own; Python itself takes about 10."""
    code = (
        "from pathlib import Path; from p2p_keras.system import memory; before = memory.peak(); "
        "block = bytearray(b'x') * 200_000_000; del block; "
        f"print(memory.peak() - before, memory.peak(Path({str(tmp_path)!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    risen, otherwise = map(int, done.stdout.split())
    assert 199e6 < risen < 210e6
    assert otherwise > 199e6  # where there is no /proc


def test_memory_is_told_in_gib():
    assert memory.in_gib(80 * 2**30) == "80.0 GiB"
