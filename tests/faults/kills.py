"""Kills a command at each call by which it changes a file, runs the same command again, and looks at what is there."""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from faults.scenes import Scene, content, differences, draw_data, events, losses
from faults.server import KILL, Fault, Server

_TRIED_OF_WRITES = 3  # of one unbroken row of writes to one file: the first, the middle, the last


class Tally(NamedTuple):
    """What came of a scene."""

    scene: str
    boundaries: int
    kills: int
    lost: list[str]  # after the kill
    wrong: list[str]  # after the same command has run once more


class Stage:
    """A scene set up: the folder as the command finds it, and as it leaves it if nothing stops it.

    Args:
        server: Runs the commands.
        scene: Which.
        folder: Where there is room; gets the data, too, if it has none yet.
    """

    def __init__(self, server: Server, scene: Scene, folder: Path) -> None:
        self.server, self.scene, self.data = server, scene, folder / "data"
        self._template, self.trial = folder / "template", folder / "trial"
        if not self.data.exists():
            draw_data(self.data)
            if scene.command == "eval":
                write_eye(self.data / "eye")
        scene.begin(server, self.trial, self.data)
        shutil.copytree(self.trial, self._template, symlinks=True)
        self.before = content(self.trial)
        first = self.run()
        assert first.status == 0, first
        self.calls, self.end, self.events = first.calls, content(self.trial), events(self.trial)

    def reset(self) -> None:
        """The folder becomes what the command finds."""
        shutil.rmtree(self.trial, ignore_errors=True)
        shutil.copytree(self._template, self.trial, symlinks=True)

    def run(self, fault: Fault = Fault()):  # noqa: B008, a constant
        """Runs the command in the folder as it is now."""
        return self.server.run(self.trial, self.scene.command, *self.scene.flags(self.trial, self.data), fault=fault)

    def wrong_at_the_end(self) -> list[str]:
        """Runs the command again, and says in what the end is another one."""
        again = self.run()
        if again.status:
            return [f"the same command ended with {again.status}: {again.err.strip()[-300:]}"]
        missing = sorted(self.events - events(self.trial))
        wrong = [f"TensorBoard lacks {len(missing)} values, as {missing[0]}"] if missing else []
        return wrong + differences(self.end, content(self.trial))


def boundaries(calls: list[str]) -> list[int]:
    """Numbers of the calls to be killed at, from 1: all, but of a row of writes to one file only a few."""
    chosen, number = [], 1
    for call, row in itertools.groupby(calls):
        count = len(list(row))
        every = range(count)
        if call.startswith("write") and count > _TRIED_OF_WRITES:
            every = [0, count // 2, count - 1]
        chosen += [number + place for place in every]
        number += count
    return chosen


def kill_at_each(
    stage: Stage, every: int = 1, first: int = 0, on_trial: Callable[[str], None] = lambda line: None
) -> Tally:
    """Kills the scene's command at every so-manyth boundary.

    Args:
        stage: The scene.
        every: 1 takes all.
        first: How many to leave out first.
        on_trial: Called with a line about each kill.
    """
    all_, lost, wrong, kills = boundaries(stage.calls), [], [], 0
    for number in all_[first::every]:
        stage.reset()
        killed = stage.run(Fault(KILL, number))
        if killed.status == 0:  # the run before it made more calls: whatever depends on what a thread does meanwhile
            continue
        kills += 1
        place = f"at {number}, {killed.calls[0] if killed.calls else killed}"
        assert killed.status == -9, killed
        now_lost = losses(stage.scene, stage.before, content(stage.trial), stage.end)
        now_wrong = stage.wrong_at_the_end()
        lost += [f"{place}: {what}" for what in now_lost]
        wrong += [f"{place}: {what}" for what in now_wrong]
        on_trial(f"{place}: {'; '.join(now_lost + now_wrong) or 'nothing lost, the same end'}")
    return Tally(stage.scene.name, len(all_), kills, lost, wrong)


def write_eye(folder: Path) -> None:
    """A stand-in for the Inception network: means of the image's quarters."""
    import subprocess
    import sys

    program = (
        "import sys, tensorflow as tf\n"
        "eye = tf.Module()\n"
        "spec = tf.TensorSpec((None, 299, 299, 3), tf.float32)\n"
        "see = lambda x: {'pool_3': tf.reshape(tf.nn.avg_pool2d(x, 150, 150, 'SAME'), (-1, 12))}\n"
        "tf.saved_model.save(eye, sys.argv[1], signatures=tf.function(see, [spec]))\n"
    )
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True, capture_output=True)
