"""What the README and docs/ say must be so: commands, flags and their values, defaults, versions."""

import ast
import inspect
import math
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import ROOT

from p2p_keras.cli import demo as demo_command
from p2p_keras.cli import doctor as doctor_command
from p2p_keras.cli import eval as eval_command
from p2p_keras.cli import export as export_command
from p2p_keras.cli import import_ as import_command
from p2p_keras.cli import prepare as prepare_command
from p2p_keras.cli import report as report_command
from p2p_keras.cli import train as train_command
from p2p_keras.cli import translate as translate_command
from p2p_keras.config import TrainConfig
from p2p_keras.data import town
from p2p_keras.data.prepare.splits import Shares
from p2p_keras.metrics import inception
from p2p_keras.metrics.distribution import inception_score
from p2p_keras.models import build_generator
from p2p_keras.presets import BEST, PRESETS, make_config
from p2p_keras.system.limits import MAX_PIXELS

README = (ROOT / "README.md").read_text()
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in (ROOT / "docs").glob("*.md")}
PAGES["README.md"] = README
WORDS = " ".join(" ".join(PAGES.values()).split())
SETUP = (ROOT / "setup.py").read_text()
COMMANDS = {
    "p2p-prepare": prepare_command,
    "p2p-train": train_command,
    "p2p-eval": eval_command,
    "p2p-export": export_command,
    "p2p-translate": translate_command,
    "p2p-import": import_command,
    "p2p-doctor": doctor_command,
    "p2p-report": report_command,
    "p2p-demo": demo_command,
}
FLAGS = {name: command.FLAGS for name, command in COMMANDS.items()}
FLAGS["quickstart"] = train_command.FLAGS
BUILT_IN = ("help", "version")  # of every command
SHELLS = ("", "sh", "bash", "console")  # what a block of commands is marked with


class Use(NamedTuple):
    """A flag somewhere in a text: of which program, in which code or line."""

    program: str  # "" if the text doesn't say; then it may be any command's
    flag: str
    value: str | None
    code: str


def uses(text: str) -> Iterator[Use]:
    """Every flag in a page. Those that stand alone belong to the command that the nearest heading above names."""
    command, language, lines, prose = "", None, [], []
    for line in text.splitlines():
        fence = re.match(r"\s*```(\w*)", line)
        if fence and language is None:
            yield from _in_prose("\n".join(prose), command)
            language, lines, prose = fence[1], [], []
        elif fence:
            yield from _in_commands("\n".join(lines)) if language in SHELLS else ()
            language = None
        elif language is not None:
            lines.append(line)
        elif line.startswith("#"):
            yield from _in_prose("\n".join(prose), command)
            named, prose = re.search(r"p2p-\w+", line), []
            command = named[0] if named else "" if line.startswith("## ") else command
        else:
            prose.append(line)
    yield from _in_prose("\n".join(prose), command)


def _in_prose(text: str, command: str) -> Iterator[Use]:
    for code in re.findall(r"`([^`]+)`", text):
        yield from _in_line(" ".join(code.split()), command)
    yield from _anybodys(re.sub(r"`[^`]+`", "", text))


def _in_commands(block: str) -> Iterator[Use]:
    for line in block.replace("\\\n", " ").splitlines():
        code, _, comment = line.partition(" # ")
        yield from _in_line(code.strip().removeprefix("$ "), "")
        yield from _anybodys(comment)


def _anybodys(text: str) -> Iterator[Use]:
    for flag in re.findall(r"(?<![\w-])--([a-z]\w*)", text):
        yield Use("", flag, None, text.strip())


def _in_line(line: str, command: str) -> Iterator[Use]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        words = list(lexer)
    except ValueError:  # a quotation that ends in another line: of no command of ours
        words = line.split()
    program, first = command, True
    for word in words:
        if re.fullmatch(r"[|;&()<>]+", word):
            program, first = command, True
        elif word.startswith("--"):
            flag, equals, value = word.removeprefix("--").partition("=")
            yield Use(program, flag, value if equals else None, line)
            first = False
        elif first and not re.fullmatch(r"\w+=.*|(.*/)?python[\d.]*", word):
            program, first = word, False


def complaints(text: str) -> list[str]:
    """What is wrong with the flags in a page, one line each."""
    found = []
    for program, flag, value, code in uses(text):
        name, positive = Path(program).name, flag.removeprefix("no")
        if name in FLAGS and flag not in FLAGS[name] and positive in FLAGS[name] and FLAGS[name][positive].boolean:
            flag = positive  # --notile takes --tile back
        if name.startswith("p2p-") and name not in FLAGS:
            found.append(f"there is no {name}: {code}")
        elif program == "" and not any({flag, positive} & {*known} for known in (*FLAGS.values(), BUILT_IN)):
            found.append(f"no command has --{flag}: {code}")
        elif program.startswith("benchmarks/") and flag not in _flags_of_script(ROOT / program):
            found.append(f"{program} has no --{flag}: {code}")
        elif name in FLAGS and flag not in FLAGS[name] and flag not in BUILT_IN:
            found.append(f"{name} has no --{flag}: {code}")
        elif name in FLAGS and value and value != "..." and not value.isupper():  # FILE, say, stands for a value
            try:
                FLAGS[name][flag].parser.parse(value)
            except ValueError as error:
                found.append(f"{name} takes no --{flag}={value}, {error}: {code}")
    return found


def _flags_of_script(path: Path) -> set[str]:
    """Of a benchmark: what it adds to its argparse parser."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    added = [call.args[0].value for call in calls if getattr(call.func, "attr", "") == "add_argument"]
    return {name.removeprefix("--") for name in added}


@pytest.mark.parametrize("page", PAGES)
def test_every_flag_is_one_of_its_command(page):
    assert complaints(PAGES[page]) == []


def test_the_readmes_flags_are_found():
    found = {(Path(use.program).name, use.flag) for use in uses(README)}
    assert {name for name, _ in found} >= {*FLAGS, "l1_against_mean.py", "tensorboard"} - {"quickstart"}
    assert found >= {
        ("p2p-prepare", "train_list"),
        ("p2p-train", "workdir"),  # with a path before the command
        ("p2p-translate", "model"),
        ("l1_against_mean.py", "workdir"),
        ("", "patience"),  # alone
    }


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```\nbin/p2p-eval --workdir=x --epochs=3\n```", "p2p-eval has no --epochs"),
        ("```\np2p-train --data_dir=x \\\n  --checkpoint=best\n```", "p2p-train has no --checkpoint"),
        ("```sh\n$ cd x && P=1 p2p-train --limit=3 | tee log\n```", "p2p-train has no --limit"),
        ("```\np2p-train --workdir=x  # and --chekpoint\n```", "no command has --chekpoint"),
        ("Run `p2p-export --workdir=x\n--tile` now.", "p2p-export has no --tile"),
        ("Or `tensorboard --logdir x; p2p-train --logdir=x`.", "p2p-train has no --logdir"),
        ("`bin/quickstart --split=val`", "quickstart has no --split"),
        ("`.venv/bin/python benchmarks/serving.py --pairs=3`", "benchmarks/serving.py has no --pairs"),
        ("`p2p-trian --workdir=x`", "there is no p2p-trian"),
        ("## p2p-eval\n### More\nWith `--epochs=3` it", "p2p-eval has no --epochs"),
        ("## p2p-eval\n## Results\nWith `--epoch=3` it", "no command has --epoch"),
        ("Without code, --epoch", "no command has --epoch"),
        ("`p2p-train --direction=up`", "p2p-train takes no --direction=up"),
        ("`p2p-train --epochs=many`", "p2p-train takes no --epochs=many"),
    ],
)
def test_a_wrong_flag_is_noticed(text, complaint):
    (found,) = complaints(text)
    assert found.startswith(complaint)


@pytest.mark.parametrize(
    "text",
    [
        "```\ndocker run --rm --publish 8501 x\ncurl --silent -d @- http://x | python3 -c 'x --y'\n```",
        "```python\nx = y --z\n```",
        "`tensorboard --logdir runs` and `tensorflow_model_server --enable_batching`",
        "`p2p-train --epochs=N --workdir=... --help` and `PYTHON=x bin/p2p-train --epochs=3`",
        "## p2p-eval\n`p2p-train --epochs=3` and `--limit`\n## Results\n`--epochs`",
    ],
)
def test_other_programs_flags_and_right_ones_are_not(text):
    assert complaints(text) == []


def _default(function: Callable, argument: str) -> Any:
    return inspect.signature(function).parameters[argument].default


PAPERS, THIRD = TrainConfig(), make_config("experiment3", data_dir="x")
LOWEST, ABOVE = re.search(r'python_requires=">=3\.(\d+),<3\.(\d+)"', SETUP).groups()
WAYS = {"s2a": ("street", "aerial"), "a2s": ("aerial", "street")}
INCEPTION_DATE = re.search(r"inception-(\d{4}-\d\d-\d\d)\.", " ".join(inception.KNOWN_PLACES))[1]
CUSTOMARY_WIDTH = next(width for width in (768, 2048) if not inception.Extractor(None, "", "", width, None).label)
# What the pages state of the code, as a pattern with a group for each value, and the values that the code has.
STATED = [
    (r"Python 3\.(\d+) to 3\.(\d+)", (int(LOWEST), int(ABOVE) - 1)),
    (r"([\d,]+) scenes of a small town", sum(town.COUNTS.values())),
    (r"the newest (\w+) kept", PAPERS.keep_checkpoints),
    (r"([\d.]+), ([\d.]+), ([\d.]+) % train, val, test", Shares()),
    (r"Defaults are the paper's, (\d+)x\d+", _default(build_generator, "image_size")),
    (r"Adam with beta1 ([\d.]+),", PAPERS.beta1),
    (
        r"--diffaugment --nojitter --nodropout --batch_size=(\d+) --learning_rate=(\S+)`",
        (BEST["batch_size"], BEST["learning_rate"]),
    ),
    (r"L1 weight (\d+)", PAPERS.lambda_l1),
    (r"(\d+)x\d+ PatchGAN", int(PAPERS.discriminator.removeprefix("patch"))),
    (r"PatchGAN, (\d+) epochs", PAPERS.epochs),
    (
        r"=experiment3 # the report's (\w+) -> (\w+), batch (\d+), lr (\S+)",
        (*WAYS[THIRD.direction], THIRD.batch_size, THIRD.learning_rate),
    ),
    (r"# the newest checkpoint on (\w+)/", eval_command.FLAGS["split"].default),
    (r"\| (\d+) Inception features", CUSTOMARY_WIDTH),
    (r"Inception network of (\d\S+)", INCEPTION_DATE),
    (r"Inception Score, (\d+) splits", _default(inception_score, "splits")),
    (r"resized to (\d+)x\d+", inception.SIZE),
    (r"over (\d+) megapixels", MAX_PIXELS / 1e6),
    (r"PSNR ([\d.]+) dB higher", round(20 * math.log10(255 / 128), 2)),
    (r"are ([\d.]+) \(ln 2\)", round(math.log(2), 2)),
    (r"pure function in (\w+)", export_command.FLAGS["precision"].default),
]


@pytest.mark.parametrize(("pattern", "values"), STATED, ids=[pattern for pattern, _ in STATED])
def test_what_is_stated_is_what_the_code_has(pattern, values):
    """Every sentence of the pages that the pattern fits; where one was written anew, its pattern is to be as well."""
    known = tuple(values) if isinstance(values, tuple) else (values,)
    found = [_values(match) for match in re.finditer(pattern, WORDS)]
    assert found, "no page says so any more"
    assert set(found) == {known}


def _values(match: re.Match) -> tuple[str | float, ...]:
    """Its groups; numbers, also those in words, as numbers."""
    words, values = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5}, []
    for text in match.groups():
        try:
            values.append(words[text] if text in words else float(text.replace(",", "")))
        except ValueError:
            values.append(text)
    return tuple(values)


def test_statistics_follow_the_batch_size_as_stated():
    (batch,) = re.findall(r"at batch (\d+) inference uses each image's own statistics", WORDS)
    sizes = range(1, 9)
    assert [size for size in sizes if TrainConfig(batch_size=size).statistics == "per_image"] == [int(batch)]


def test_every_preset_command_and_module_that_is_named_exists():
    assert set(re.findall(r"experiment\d", WORDS)) <= set(PRESETS)
    for name in set(re.findall(r"(?<!/)bin/([a-z0-9-]+)", WORDS)):
        assert (ROOT / "bin" / name).exists() or f'"{name} = ' in SETUP
    for name in set(re.findall(r"`([\w/]+\.py)`", WORDS)):
        assert (ROOT / "p2p_keras" / name).exists() or (ROOT / name).exists(), name


def test_it_opens_with_the_two_commands():
    assert README.index("bin/quickstart") < README.index("bin/test") < 700


def test_versions_are_pinned_within_the_ranges_of_setup_py():
    pinned = re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    ranged = re.findall(r'^        (?:"(?:demo|report)": \[)?"([a-z0-9-]+)>=', SETUP, re.MULTILINE)
    ranged += re.findall(r'"([a-z]+)>=', re.search(r'"notebook": .*', SETUP)[0])
    assert set(ranged) == set(pinned)
