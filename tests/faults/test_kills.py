"""Commands killed, or failed by their disk, in processes of their own. `benchmarks/faults.py` prints all of it."""

import platform
import shutil

import pytest

from faults.errors import FAULTS, befall
from faults.kills import Stage, kill_at_each
from faults.scenes import SCENES, differences, losses
from faults.server import KILL, Fault, Server
from p2p_keras.data.manifest import HEAD

pytestmark = pytest.mark.skipif(
    platform.system() != "Linux" or not shutil.which("gcc"), reason="calls are counted by a C library for Linux"
)
_WITHOUT_TENSORFLOW = [scene for scene in SCENES if scene.command == "prepare" and "shards" not in scene.name]


def _names(scenes: list) -> list[str]:
    return [scene.name for scene in scenes]


@pytest.fixture(scope="module")
def quick_server():
    with Server(with_tensorflow=False) as server:
        yield server


@pytest.fixture(scope="module")
def server():
    with Server() as server:
        yield server


@pytest.fixture(scope="module")
def stage(quick_server, tmp_path_factory):
    """p2p-prepare on a finished data set whose source has grown."""
    return Stage(quick_server, _WITHOUT_TENSORFLOW[1], tmp_path_factory.mktemp("more"))


def test_p2p_prepare_loses_nothing_wherever_it_is_killed(stage):
    tally = kill_at_each(stage, every=4)
    assert tally.kills > 10
    assert tally.lost + tally.wrong == []


@pytest.mark.parametrize("name", ["disk full", "EIO, one fsync", "no locks (ENOLCK)", "a clock", "two at once"])
def test_p2p_prepare_says_in_a_line_what_fails_and_comes_through_afterwards(stage, name):
    (kind,) = (kind for kind in FAULTS if kind.name.startswith(name))
    assert befall(stage, kind).problems == []


def test_what_is_lost_is_noticed(stage):
    """The harness itself: a file of before that is gone, or half there, is a loss."""
    name = next(name for name in stage.before if name.startswith("train/"))
    gone = {path: text for path, text in stage.before.items() if path != name}
    assert losses(stage.scene, stage.before, gone, stage.end) == [f"{name} has gone"]
    half = {**stage.before, name: stage.before[name][:9]}
    assert losses(stage.scene, stage.before, half, stage.end) == [f"{name} is neither the old one nor the new one"]
    assert losses(stage.scene, stage.before, stage.before, stage.end) == []


def test_what_differs_in_the_end_is_noticed(stage):
    name = next(name for name in stage.end if name.startswith("train/"))
    assert differences(stage.end, stage.end) == []
    assert differences(stage.end, {**stage.end, name: b""}) == [f"{name} differs"]
    assert differences(stage.end, {**stage.end, ".0.part": b""}) == [".0.part is left over"]
    assert differences(stage.end, {**stage.end, "new": b""}) == ["new is missing or new"]


def test_a_kill_in_the_middle_of_a_write_leaves_half_of_it(quick_server, tmp_path):
    """The first file that p2p-prepare writes is its journal, which is no more than a head by then."""
    stage = Stage(quick_server, _WITHOUT_TENSORFLOW[0], tmp_path)
    first = next(number for number, call in enumerate(stage.calls, start=1) if call.startswith("write "))
    for number, content in ((first, ""), (first + 1, HEAD[: len(HEAD) // 2]), (first + 2, HEAD)):
        stage.reset()
        assert stage.run(Fault(KILL, number)).status == -9
        assert [path.read_text() for path in (stage.trial / ".prepare").iterdir()] == [content]


@pytest.mark.slow
@pytest.mark.parametrize("scene", SCENES, ids=_names(SCENES))
def test_nothing_is_lost_wherever_a_command_is_killed(server, tmp_path, scene):
    tally = kill_at_each(Stage(server, scene, tmp_path), every=1 if scene.command == "prepare" else 9)
    assert tally.kills > 5
    assert tally.lost + tally.wrong == []


@pytest.mark.slow
@pytest.mark.parametrize("scene", SCENES, ids=_names(SCENES))
def test_a_failing_disk_is_said_in_a_line_and_costs_nothing(server, tmp_path, scene):
    stage = Stage(server, scene, tmp_path)
    assert [problem for kind in FAULTS for problem in getattr(befall(stage, kind), "problems", [])] == []
