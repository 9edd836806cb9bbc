"""The arrows of the house: which room may import which."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "p2p_keras"

# Lower floors know nothing of higher ones; rooms on one floor may know each other only where it says so.
FLOORS = [
    {"errors", "data", "cli"},
    {"cadence", "kinds", "progress", "metrics._tfgan", "versions", "cache", "data.manifest", "pictures"},
    {"config"},
    {"metrics.distribution", "metrics.paired", "metrics.labels", "metrics.frozen_graph", "fetch", "download"}
    | {"images", "losses", "models", "devices", "workdir", "data.pairs", "presets"}
    | {"data.town", "data.town.compose", "data.town.render", "data.town.paint", "data.town.scene"},
    {"data.check", "data.archives"},
    {"data.prepare.sources"},
    {"data.prepare.splits", "data.prepare.stack"},
    {"data.prepare.work", "data.prepare.duplicates", "data.prepare.preview", "data.prepare.shards"},
    {"data.prepare.lists"},
    {"data.prepare"},
    {"trainer", "checkpoints", "charts", "summaries", "data.pipeline", "metrics.inception"},
    {"", "samples", "recorder", "networks", "settle", "metrics", "serving", "warmup"},
    {"scoring"},
    {"scoreboard"},
    {"validation"},
    {"train", "evaluate", "export"},
    {"loading"},
    {"translate"},
    {"cli.command", "cli.prepare", "cli.train", "cli.eval", "cli.export", "cli.translate"},
]
NEIGHBOURS = {
    ("data.town", "data.town.compose"),
    ("data.town", "data.town.render"),
    ("data.town.compose", "data.town.scene"),
    ("data.town.render", "data.town.paint"),
    ("data.town.render", "data.town.scene"),
    ("data.town.paint", "data.town.scene"),
    ("cli.prepare", "cli.command"),
    ("fetch", "download"),
    ("cli.train", "cli.command"),
    ("cli.eval", "cli.command"),
    ("cli.export", "cli.command"),
    ("cli.translate", "cli.command"),
}


def _rooms() -> dict[str, Path]:
    names = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        names[".".join(part for part in parts if part != "__init__")] = path
    return names


def _imports(path: Path) -> set[str]:
    """Modules named in a file's imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def _strings(path: Path) -> set[str]:
    """Strings in a file: a module can also be loaded by its name."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def _floor(room: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if room in rooms)


def test_every_room_has_a_floor():
    assert set(_rooms()) == set.union(*FLOORS)


@pytest.mark.parametrize("room", sorted(_rooms()))
def test_arrows_go_down_only(room):
    rooms = _rooms()
    used = {
        name.removeprefix("p2p_keras").lstrip(".") for name in _imports(rooms[room]) if name.startswith("p2p_keras")
    }
    for other in used & set(rooms):
        if other and other != room and (room, other) not in NEIGHBOURS:
            assert _floor(other) < _floor(room), f"{room} imports {other}"


def test_the_trainer_knows_only_the_losses():
    used = {name for name in _imports(PACKAGE / "trainer.py") if name.startswith("p2p_keras")}
    assert used == {"p2p_keras", "p2p_keras.losses"}


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        ("matplotlib", {"charts"}),
        ("absl", {"cli.command", "cli.prepare", "cli.train", "cli.eval", "cli.export", "cli.translate"}),
        ("tensorflow_gan", {"metrics._tfgan"}),
    ],
)
def test_a_library_has_one_door(library, allowed):
    users = {
        room
        for room, path in _rooms().items()
        if any(name.split(".")[0] == library for name in _imports(path) | _strings(path))
    }
    assert users == allowed


@pytest.mark.parametrize(
    "module",
    [
        "p2p_keras",
        "p2p_keras.config",
        "p2p_keras.cli.train",
        "p2p_keras.cli.eval",
        "p2p_keras.cli.prepare",
        "p2p_keras.data.prepare",
        "p2p_keras.data.archives",
        "p2p_keras.data.pairs",
        "p2p_keras.data.town",
    ],
)
def test_light_modules_load_without_tensorflow(module):
    code = f"import sys, {module}; sys.exit(bool({{'tensorflow', 'matplotlib', 'tensorflow_gan'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, check=False).returncode == 0


def test_no_pickle_no_lambda_layer_no_load_model():
    for room, path in _rooms().items():
        names = {
            n.attr if isinstance(n, ast.Attribute) else n.id
            for n in ast.walk(ast.parse(path.read_text()))
            if isinstance(n, ast.Attribute | ast.Name)
        }
        assert not names & {"pickle", "Lambda", "load_model"}, room
        assert "pickle" not in _imports(path), room
