"""The page as text: what is in it is data, it asks for nothing, and it stays small."""

import base64
import hashlib
import html.parser
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import small_config

from p2p_keras.errors import UserError
from p2p_keras.report import page as page_module
from p2p_keras.report.gather import Diagnosis, Sample
from p2p_keras.report.page import PAIR_BYTES, SAMPLE_BYTES, load_template, render
from p2p_keras.report.pairs import Pair, Translated
from p2p_keras.report.pictures import embed_evenly
from report.scenes import HOSTILE, decoded, draw_run, draw_translated

SCORES = {"a.png": {"l1": 0.1, "psnr": 9.0}, "b.png": {"l1": 0.3, "psnr": 12.0}, "c.png": {"l1": 0.2, "psnr": np.inf}}


class Page(html.parser.HTMLParser):
    """The elements of a page, by Python's own parser: tag and attributes, and the text of scripts and styles."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []  # of the innermost element's tag
        self._open = ""
        self.feed(content.decode())

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._open = tag

    def handle_endtag(self, tag):
        self._open = ""

    def handle_data(self, text):
        self.texts.append((self._open, text))

    def having(self, tag: str, name: str = "", value: str = "") -> list[dict[str, str]]:
        found = [attributes for own, attributes in self.elements if own == tag]
        return [attributes for attributes in found if not name or value in (attributes.get(name) or "").split(" ")]

    def data(self) -> dict:
        (text,) = [text for tag, text in self.texts if tag == "script" and text.startswith("{")]
        return json.loads(text)


def _page(*runs, translated=None, version="") -> Page:
    return Page(render(load_template(), runs, translated or ["There are none."] * len(runs), version))


def test_names_and_settings_are_data_never_markup():
    ends = "</script><script>document.title=2</script>"
    config = small_config(Path(HOSTILE), samples=(HOSTILE, ends), panels=(ends, HOSTILE))
    record = {
        "data": {"fingerprint": ends, "counts": {HOSTILE: 1, "train": 12}},
        "versions": {HOSTILE: ends},
    }
    finding = {"name": HOSTILE, "evidence": ends, "meaning": HOSTILE, "remedy": ends}
    run = draw_run(
        HOSTILE + ends,
        config=config,
        record=record,
        diagnosis=Diagnosis(3, [finding], [{"name": ends, "reason": HOSTILE}]),
    )
    plain = _page(draw_run(), translated=[draw_translated({"a.png": {"l1": 0.1, "psnr": 9.0}})])
    page = _page(run, translated=[draw_translated({HOSTILE + ends: {"l1": 0.1, "psnr": 9.0}})])
    assert [tag for tag, _ in page.elements if tag in ("script", "img")] == [
        tag for tag, _ in plain.elements if tag in ("script", "img")
    ]
    assert not [attributes for _, attributes in page.elements if any(name.startswith("on") for name in attributes)]
    assert all(image["src"].startswith("data:image/") for image in page.having("img"))
    assert any(HOSTILE in (image["alt"] or "") for image in page.having("img"))
    assert page.data()["runs"] == [HOSTILE + ends]


def test_names_that_are_no_text_make_a_page_all_the_same():
    name = b"\xff.png".decode(errors="surrogateescape")
    page = _page(draw_run(), translated=[draw_translated({name: {"l1": 0.1, "psnr": 9.0}})])
    assert any("\\udcff.png" in (image["alt"] or "") for image in page.having("img"))


def test_it_may_do_nothing_but_run_its_own_script():
    for version, asks in (("", "'none'"), ("1", "'self'")):
        page = _page(draw_run(), version=version)
        (policy,) = [each["content"] for each in page.having("meta") if "http-equiv" in each]
        rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
        assert (rules["default-src"], rules["img-src"], rules["connect-src"]) == ("'none'", "data:", asks)
        for tag, rule in (("script", "script-src"), ("style", "style-src")):
            text = [text for own, text in page.texts if own == tag][-1]
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert rules[rule] == f"'sha256-{digest}'"
    links = [attributes.get("href") or attributes.get("src") for _, attributes in page.elements]
    assert {link[:5] for link in links if link} == {
        "data:",
        "#summ",
        "#curv",
        "#samp",
        "#pair",
        "#find",
        "#sett",
        "#repe",
    }
    assert not [attributes for _, attributes in page.elements if "style" in attributes]


def test_pairs_are_there_worst_first_with_their_scores():
    page = _page(draw_run(), translated=[draw_translated(SCORES)])
    assert [card["data-number"] for card in page.having("article", "class", "pair")] == ["1", "2", "0"]
    group = page.data()["groups"][0]
    assert group["scores"] == [[{"l1": 0.1, "psnr": 9.0}], [{"l1": 0.3, "psnr": 12.0}], [{"l1": 0.2, "psnr": None}]]
    assert [(metric["name"], metric["higher"]) for metric in group["metrics"]] == [("l1", False), ("psnr", True)]
    targets = [image for image in page.having("img") if image["alt"] == "Target of a.png"]
    drawn = draw_translated(SCORES).pairs[0].target
    # A white ground: WebP keeps it to a level or two.
    np.testing.assert_allclose(decoded(targets[0]["src"])[0, 0].astype(int), drawn[0, 0], atol=4)


@pytest.mark.parametrize(("fingerprint", "groups"), [("abc", 1), ("other", 2)])
def test_two_runs_share_a_list_if_they_were_given_the_same(fingerprint, groups):
    pairs = [draw_translated(SCORES), draw_translated(SCORES, fingerprint, step=6)]
    page = _page(draw_run("one"), draw_run("two"), translated=pairs)
    data = page.data()
    assert len(data["groups"]) == groups
    assert {len(scores) for group in data["groups"] for scores in group["scores"]} == {2 // groups}
    targets = [image["src"] for image in page.having("img") if image["alt"] == "Target of a.png"]
    assert len(targets) == 2  # beside what each run made of it
    options = [option["value"] for option in page.having("option")]
    assert ("-:l1" in options) == (groups == 1)


def test_without_pairs_it_says_why():
    page = _page(draw_run(), translated=["The data were in <b>."])
    assert any("The data were in <b>." in text for _, text in page.texts)
    assert page.data()["groups"] == []


def test_an_imported_generator_has_a_page():
    bare = {"history": [], "evaluations": {}, "samples": [], "sample_count": 0, "diagnosis": None, "best_step": None}
    page = _page(draw_run(record={"imported": {"source": "net_G.pth"}}, steps_per_epoch=1, **bare))
    texts = [text for _, text in page.texts]
    assert "imported, not trained here" in texts
    assert not any("p2p-train --workdir" in text for text in texts)
    assert page.data()["charts"] == []


def test_everything_that_can_be_operated_has_a_name():
    page = _page(draw_run(), translated=[draw_translated(SCORES)])
    assert all(image.get("alt") for image in page.having("img"))
    labelled = {label.get("for") for label in page.having("label")}
    for field in page.having("input"):
        assert field.get("aria-label") or field.get("id") in labelled
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"][1:] for link in page.having("a")} <= set(ids)


def _contrast(one: str, other: str) -> float:
    """Of WCAG 2: the relation of relative luminances, 1 to 21."""
    lights = []
    for colour in (one, other):
        digits = "".join(digit * 2 for digit in colour) if len(colour) == 3 else colour
        levels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
        linear = [level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4 for level in levels]
        lights.append(np.dot(linear, [0.2126, 0.7152, 0.0722]) + 0.05)
    return max(lights) / min(lights)


def test_colours_can_be_told_from_their_ground():
    """As WCAG 2.1 AA asks: 4.5 for text, 3 for what is drawn."""
    assert _contrast("000", "fff") == pytest.approx(21)
    assert _contrast("767676", "ffffff") == pytest.approx(4.54, abs=0.01)  # the customary example
    style = (Path(page_module.__file__).parent / "templates" / "report.css").read_text()
    light, dark = (dict(re.findall(r"--(\w+): #(\w+);", block)) for block in re.findall(r":root {(.*?)}", style, re.S))
    for colours in (light, dark):
        for text in ("text", "quiet", "accent"):
            assert _contrast(colours[text], colours["ground"]) >= 4.5
            assert _contrast(colours["text"], colours["field"]) >= 4.5
        assert _contrast(colours["text"], colours["mark"]) >= 4.5
        for number in range(4):
            assert _contrast(colours[f"run{number}"], colours["ground"]) >= 3


def test_of_label_maps_and_several_inputs():
    pair = draw_translated({"a.png": {"l1": 0.1, "pixel_accuracy": 0.5}}).pairs[0]
    pair = pair._replace(inputs=[pair.target, pair.generated])
    translated = Translated(3, "test", 9, "abc", ("aerial", "street_seg"), (False, True, True), [pair])
    page = _page(draw_run(), translated=[translated])
    by_alt = {image["alt"]: image["src"] for image in page.having("img")}
    np.testing.assert_array_equal(decoded(by_alt["Input street_seg of a.png"]), pair.generated)
    np.testing.assert_array_equal(decoded(by_alt["Generated from a.png at step 3"]), pair.generated)


def test_without_jinja2_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(UserError, match=re.escape("pip install 'p2p_keras[report]'")):
        load_template()


def _noise(height: int, width: int) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, (height, width, 3)).astype(np.uint8)


def test_the_pictures_of_pairs_stay_within_their_bytes_also_where_two_runs_show_the_same_target(monkeypatch):
    """The target stands beneath each run's generated picture, so that it is in the page twice."""
    monkeypatch.setattr(page_module, "PAIR_BYTES", 100_000)
    pairs = [Pair(f"{i}.png", [_noise(32, 32)], _noise(32, 32), _noise(32, 32), {"l1": 0.1}) for i in range(20)]
    translated = [Translated(3, "val", 20, "same", ("input",), (False, False), pairs)] * 2
    page = _page(draw_run("a", samples=[]), draw_run("b", samples=[]), translated=translated)
    urls = [image["src"] for image in page.having("img")]
    assert len(urls) == 20 * 5
    assert 50_000 < sum(map(len, urls)) <= 100_000


def test_names_and_scores_take_of_the_pictures_room(monkeypatch):
    monkeypatch.setattr(page_module, "MOST_BYTES", 400_000)
    pairs = [Pair(f"{i:<<240}.png", [_noise(64, 64)], _noise(64, 64), _noise(64, 64), {"l1": 0.1}) for i in range(30)]
    translated = Translated(3, "val", 30, "same", ("input",), (False, False), pairs)
    content = render(load_template(), [draw_run(samples=[])], [translated])
    assert 300_000 < len(content) <= 400_000


def test_each_sample_sheet_is_in_the_page_once():
    content = render(load_template(), [draw_run()], ["There are none."]).decode()
    assert [content.count(sample.url) for sample in draw_run().samples] == [1] * 4


@pytest.mark.slow
@pytest.mark.parametrize("pairs_are", ["of one run", "the same", "others"])
def test_it_stays_below_ten_megabytes_whatever_the_pictures(pairs_are):
    """100 pairs and 40 sample sheets of noise, which no codec makes small."""
    count = 1 if pairs_are == "of one run" else 2
    rng = np.random.RandomState(0)

    def noise(height: int, width: int) -> np.ndarray:
        return rng.randint(0, 256, (height, width, 3)).astype(np.uint8)

    runs, translated = [], []
    for number in range(count):
        sheets, urls = embed_evenly(40, lambda _: noise(600, 400), SAMPLE_BYTES // count)
        samples = [Sample(float(epoch), f"epoch {epoch}", url) for epoch, url in zip(sheets, urls, strict=True)]
        pairs = [
            Pair(f"{i}.png", [noise(256, 256)], noise(256, 256), noise(256, 256), {"l1": 0.1, "psnr": 9.0})
            for i in range(100)
        ]
        runs.append(draw_run(str(number), epochs=200, samples=samples, sample_count=40))
        fingerprint = "same" if pairs_are == "the same" else str(number)
        translated.append(Translated(3, "val", 100, fingerprint, ("input",), (False, False), pairs))
    content = render(load_template(), runs, translated)
    assert len(content) < 10_000_000
    page = Page(content)
    assert len(page.having("img", "class", "over")) == 100 * count
    assert len(content) > 0.5 * (PAIR_BYTES + SAMPLE_BYTES)  # the room is used
