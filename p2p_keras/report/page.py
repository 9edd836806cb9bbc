"""The page: plain data -> HTML, by jinja2, which escapes whatever comes from a run's folder."""

import base64
import hashlib
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2p_keras.errors import UserError
from p2p_keras.metrics.table import BY_NAME, in_order
from p2p_keras.report import facts
from p2p_keras.report.curves import charts
from p2p_keras.report.gather import Run
from p2p_keras.report.pairs import Translated
from p2p_keras.report.pictures import embed
from p2p_keras.report.repeat import train_command
from p2p_keras.versions import VERSION

if TYPE_CHECKING:
    import jinja2

MOST_BYTES = 9_900_000  # of the page, which stays below 10 MB
# Of the pictures, as they stand in the file. Those of pairs get less where all else leaves less, as very many names do.
SAMPLE_BYTES = 3_500_000
PAIR_BYTES = 5_500_000

_TEMPLATES = Path(__file__).parent / "templates"


def load_template() -> "jinja2.Template":
    """The page's template.

    Raises:
        UserError: jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise UserError("p2p-report needs jinja2: pip install 'p2p_keras[report]', or pip install jinja2") from error
    loader = jinja2.FileSystemLoader(_TEMPLATES)
    # Names, paths and settings are data: all of them are escaped.
    return jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).get_template("report.html")


def render(
    template: "jinja2.Template",
    runs: Sequence[Run],
    translated: Sequence[Translated | str],
    version: str = "",
) -> bytes:
    """Makes the page.

    Args:
        template: From `load_template`.
        runs: One, or two to be compared.
        translated: For each run its pairs, or why there are none.
        version: Of what the page shows; given, the page asks the server it came from for newer ones.

    Returns:
        HTML in UTF-8, with its style, its script and all pictures inside.
    """
    else_bytes = len(_make(template, runs, translated, version, 0))
    return _make(template, runs, translated, version, max(1, min(PAIR_BYTES, MOST_BYTES - else_bytes)))


def _make(
    template: "jinja2.Template",
    runs: Sequence[Run],
    translated: Sequence[Translated | str],
    version: str,
    pair_bytes: int,
) -> bytes:
    """The page whose pictures of pairs take so many bytes at most; 0 leaves them out."""
    groups = _groups(runs, translated, pair_bytes)
    style, script = ((_TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    data = {
        "version": version,
        "runs": [run.name for run in runs],
        "charts": charts(runs),
        "samples": [_samples(run) for run in runs],
        "groups": [{"metrics": group["metrics"], "scores": group["scores"]} for group in groups],
    }
    html = template.render(
        title=" and ".join(run.name for run in runs),
        runs=runs,
        made=time.strftime("%Y-%m-%d %H:%M"),
        p2p_version=VERSION,
        summary=facts.summary(runs),
        scores=facts.scores(runs),
        settings=facts.settings(runs),
        charts=data["charts"],
        groups=groups,
        why_no_pairs=[(run.name, why) for run, why in zip(runs, translated, strict=True) if isinstance(why, str)],
        repeats=[_repeat(run) for run in runs],
        data=data,
        style=style,
        script=script,
        policy=_policy(style, script, follows=bool(version)),
        follows=bool(version),
    )
    return html.encode("utf-8", "backslashreplace")  # names of files may hold bytes that are no text


def _policy(style: str, script: str, follows: bool) -> str:
    """What the browser lets the page do: run these very texts, show pictures that are in it, and nothing else."""
    own = "'self'" if follows else "'none'"
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    return (
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        f"connect-src {own}; base-uri 'none'; form-action 'none'"
    )


def _samples(run: Run) -> list[dict[str, Any]]:
    """The sample sheets for the script; the last one's picture stands in the page itself, and not here once more."""
    samples = [sample._asdict() for sample in run.samples]
    return [*samples[:-1], *({**sample, "url": ""} for sample in samples[-1:])]


def _repeat(run: Run) -> dict[str, Any]:
    """What it takes to do a run again."""
    record, imported = run.record, "imported" in run.record
    data, versions = record.get("data", {}), record.get("versions", {})
    return {
        "name": run.name,
        "command": [] if imported else train_command(run.config, f"{run.workdir}-again"),
        "seed": run.config.seed,
        "data": run.config.data_dir or "the demo, a drawn town",
        "fingerprint": data.get("fingerprint", ""),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }


def _groups(runs: Sequence[Run], translated: Sequence[Translated | str], budget: int) -> list[dict[str, Any]]:
    """The pairs as the page shows them: of two runs in one list if both were given the same, else a list each."""
    known = [(run, pairs) for run, pairs in zip(runs, translated, strict=True) if isinstance(pairs, Translated)]
    alike = len({_likeness(pairs) for _, pairs in known}) == 1
    lists = [known] if alike else [[each] for each in known]
    return [_group(members, budget // len(lists), len(runs) > 1) for members in lists]


def _likeness(translated: Translated) -> tuple:
    return (translated.fingerprint, translated.exact, tuple(pair.name for pair in translated.pairs))


def _group(members: list[tuple[Run, Translated]], budget: int, named: bool) -> dict[str, Any]:
    first = members[0][1]
    pictures, exact = [], []
    for number, pair in enumerate(first.pairs):
        pictures += pair.inputs
        exact += first.exact[:-1]
        for _, each in members:  # the target is beneath each generated picture, and takes its bytes each time
            pictures += [pair.target, each.pairs[number].generated]
            exact += [first.exact[-1]] * 2
    urls = iter(embed(pictures, budget, exact) if budget else [""] * len(pictures))
    names = in_order({name for pair in first.pairs for name in pair.scores})
    metrics = [
        {
            "name": name,
            "title": BY_NAME[name].title,
            "higher": BY_NAME[name].higher_is_better,
            "decimals": BY_NAME[name].decimals,
            "shown": bool(BY_NAME[name].chart_title),
        }
        for name in names
    ]
    cards = []
    for number, pair in enumerate(first.pairs):
        inputs = [next(urls) for _ in pair.inputs]
        cards.append(
            {
                "number": number,
                "name": pair.name,
                "inputs": list(zip(first.input_titles, inputs, strict=True)),
                "generated": [
                    (run.name, each.step, next(urls), next(urls), _shown(each.pairs[number].scores, metrics))
                    for run, each in members
                ],
            }
        )
    scores = [[_finite(each.pairs[number].scores) for _, each in members] for number in range(len(cards))]
    cards.sort(key=lambda card: -first.pairs[card["number"]].scores["l1"])  # the worst first, as the script does
    height, width, _ = first.pairs[0].target.shape
    return {
        "split": first.split,
        "count": first.count,
        "runs": [(run.name, each.step) for run, each in members],
        "named": named,
        "metrics": metrics,
        "scores": scores,
        "cards": cards,
        "width": width,
        "height": height,
    }


def _shown(scores: dict[str, float], metrics: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What stands under a picture: each metric as text."""
    values = [scores[metric["name"]] for metric in metrics]
    texts = [f"{value:.{metric['decimals']}f}" for value, metric in zip(values, metrics, strict=True)]
    return [{**metric, "text": text} for metric, text in zip(metrics, texts, strict=True)]


def _finite(scores: dict[str, float]) -> dict[str, float | None]:
    """As JSON has numbers: None stands for the infinite, which only equal pictures have."""
    return {name: value if math.isfinite(value) else None for name, value in scores.items()}
