import subprocess
import sys
import time

import pytest

from p2p_keras.training.stop import dropped_in_background

# What takes long to drop, as TensorFlow's iterator does, and says when it is done.
_A_SLOW_ONE = """
import time
from p2p_keras.training.stop import dropped_in_background

class Slow:
    def __del__(self):
        time.sleep(0.5)
        print("dropped", flush=True)

held = [Slow()]
with dropped_in_background(held):
    pass
print("went on", flush=True)
"""


def test_what_is_held_is_dropped():
    held = [object()]
    with dropped_in_background(held):
        assert len(held) == 1
    for _ in range(1000):
        if not held:
            return
        time.sleep(0.01)
    pytest.fail("it is still held after ten seconds")


def test_nobody_waits_for_it_but_the_end_of_the_interpreter():
    """A thread that is ended inside TensorFlow, as Python ends a daemon, aborts the process."""
    ended = subprocess.run([sys.executable, "-c", _A_SLOW_ONE], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "went on\ndropped\n"), ended.stderr
