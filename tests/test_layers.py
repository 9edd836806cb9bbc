"""The arrows of the house: which room may import which."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

TESTS = Path(__file__).parent
PACKAGE = ROOT / "p2p_keras"

# From top to bottom: a room imports from those below it, and from itself. `__init__` is the package's own.
FLOORS = [
    {"__init__"},
    {"cli", "api"},
    {"demo"},
    {"training", "translate", "pytorch", "report"},
    {"doctor"},
    {"export"},
    {"evaluation"},
    {"workdir"},
    {"data"},
    {"models", "losses", "presets"},
    {"layers"},
    {"config"},
    {"declare", "rules"},
    {"images"},
    {"metrics"},
    {"system"},
    {"errors", "sizes", "pretrained"},
    {"versions"},
]


def _modules() -> dict[str, Path]:
    """Every module, as `training.step`, `models` or `__init__`."""
    names = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
    return names


def _room(module: str) -> str:
    return module.partition(".")[0]


def _floor(module: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if _room(module) in rooms)


def _imports(path: Path) -> set[str]:
    """Modules named in a file's imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return found


def _own_imports(path: Path) -> set[str]:
    """Those of this package, as `_modules` names them."""
    names = {name.removeprefix("p2p_keras").lstrip(".") for name in _imports(path) if name.startswith("p2p_keras")}
    return names & set(_modules())


def _strings(path: Path) -> set[str]:
    """Strings in a file: a module can also be loaded by its name."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def test_every_room_has_a_floor():
    assert {_room(module) for module in _modules()} == set.union(*FLOORS)


def _wrong_arrows(arrows: dict[str, set[str]]) -> list[str]:
    """Of what each module imports, what does not lie on a floor below its own."""
    return [
        f"{module} imports {other}"
        for module, others in sorted(arrows.items())
        for other in sorted(others)
        if _room(other) != _room(module) and _floor(other) <= _floor(module)
    ]


def test_arrows_go_down_only():
    assert _wrong_arrows({module: _own_imports(path) for module, path in _modules().items()}) == []


def test_wrong_arrows_are_noticed(tmp_path):
    (tmp_path / "a.py").write_text(
        "from p2p_keras.cli import eval\n\ndef f():\n    import p2p_keras.training.step\n    from .. import losses\n"
    )
    assert _own_imports(tmp_path / "a.py") == {"cli", "cli.eval", "training.step"}
    assert ".." in _imports(tmp_path / "a.py")
    arrows = {"data.check": {"training.step", "data.pairs", "images.kinds"}, "metrics.paired": {"images.codec"}}
    assert _wrong_arrows(arrows) == ["data.check imports training.step", "metrics.paired imports images.codec"]


def test_imports_are_absolute():
    """So that those above see all of them."""
    relative = {module for module, path in _modules().items() if any(n.startswith(".") for n in _imports(path))}
    assert relative == set()


def test_no_two_modules_import_each_other():
    arrows = {module: _own_imports(path) - {module} for module, path in _modules().items()}
    while leaves := {module for module, others in arrows.items() if not others & arrows.keys()}:
        arrows = {module: others for module, others in arrows.items() if module not in leaves}
    assert not arrows, f"in a circle: {sorted(arrows)}"


def test_the_step_knows_only_the_losses():
    assert _own_imports(PACKAGE / "training" / "step.py") == {"losses"}


def test_no_file_is_long():
    lines = {module: len(path.read_text().splitlines()) for module, path in _modules().items()}
    assert {module: count for module, count in lines.items() if count > 320} == {}


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        ("matplotlib", {"images.charts"}),
        ("absl", {"cli"}),
        ("tensorflow_gan", {"metrics._tfgan"}),
        ("torch", {"pytorch.read"}),
        ("jinja2", {"report.page"}),
        ("gradio", {"demo.page"}),
    ],
)
def test_a_library_has_one_door(library, allowed):
    users = {
        module
        for module, path in _modules().items()
        if any(name.split(".")[0] == library for name in _imports(path) | _strings(path))
    }
    assert {module if module in allowed else _room(module) for module in users} == allowed


LIGHT = [
    "p2p_keras",
    "p2p_keras.config",
    "p2p_keras.data.pairs",
    "p2p_keras.data.archives",
    "p2p_keras.data.town",
    "p2p_keras.data.prepare.run",
    "p2p_keras.cli.prepare",
    "p2p_keras.cli.train",
    "p2p_keras.cli.eval",
    "p2p_keras.cli.export",
    "p2p_keras.cli.translate",
    "p2p_keras.cli.import_",
    "p2p_keras.cli.doctor",
    "p2p_keras.doctor.history",
    "p2p_keras.cli.report",
    "p2p_keras.cli.demo",
]


def test_light_modules_load_without_tensorflow():
    """So that `--help` and a typo don't wait for it, and workers of p2p-prepare stay small."""
    code = """
import importlib, sys
for module in sys.argv[1:]:
    importlib.import_module(module)
    for heavy in ("tensorflow", "keras", "matplotlib", "tensorflow_gan", "torch", "jinja2", "gradio"):
        if heavy in sys.modules:
            sys.exit(f"{module} loads {heavy}")
"""
    done = subprocess.run([sys.executable, "-c", code, *LIGHT], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_tests_share_is_in_conftest_once():
    known = {}
    for path in sorted(TESTS.rglob("*.py")):
        assert not [name for name in _imports(path) if ".test_" in f".{name}"], path
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.decorator_list:  # without fixtures
                if ast.get_docstring(node) and len(node.body) > 1:
                    del node.body[0]
                name, node.name = node.name, ""
                content = ast.dump(node)
                assert content not in known, f"{path}: {name} is {known[content]}"
                known[content] = f"{name} of {path}"


def test_no_pickle_no_lambda_layer_no_load_model():
    for module, path in _modules().items():
        names = {
            n.attr if isinstance(n, ast.Attribute) else n.id
            for n in ast.walk(ast.parse(path.read_text()))
            if isinstance(n, ast.Attribute | ast.Name)
        }
        assert not names & {"pickle", "Lambda", "load_model"}, module
        assert "pickle" not in _imports(path), module
