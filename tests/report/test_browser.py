"""The page in a real browser: what moves, that nothing is asked for, and that the console stays empty."""

import json
import shutil
import threading
from collections.abc import Iterator

import pytest

from p2p_keras.report.follow import make_server
from p2p_keras.report.page import load_template, render
from report.scenes import HOSTILE, draw_record, draw_run, draw_translated

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.select import Select  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="there is no chromium with its chromedriver"),
]

QUIET = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-prefers-reduced-motion",
]
ONE = {
    "a.png": {"l1": 0.1, "psnr": 9.0},
    "b.png": {"l1": 0.3, "psnr": 12.0},
    "c.png": {"l1": 0.2, "psnr": float("inf")},
}
OTHER = {"a.png": {"l1": 0.5, "psnr": 9.0}, "b.png": {"l1": 0.3, "psnr": 11.0}, "c.png": {"l1": 0.1, "psnr": 8.0}}


@pytest.fixture(scope="module")
def chromium(tmp_path_factory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for each in (*QUIET, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}", "--window-size=1280,900"):
        options.add_argument(each)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.get("about:blank")  # instead of Chromium's own first page
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium) -> Iterator[webdriver.Chrome]:
    """It; afterwards the console must be empty, and nothing have been asked for but the page."""
    chromium.get_log("browser"), chromium.get_log("performance")
    chromium.set_window_size(1280, 900)
    yield chromium
    assert chromium.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    asked = [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]
    assert {url.partition(":")[0] for url in asked if not url.startswith("http://127.0.0.1:")} <= {"file", "data"}
    assert len([url for url in asked if url.startswith("file:")]) <= 1


@pytest.fixture
def one(browser, tmp_path) -> webdriver.Chrome:
    """The page of one run."""
    return _open(browser, tmp_path, render(load_template(), [draw_run()], [draw_translated(ONE)]))


@pytest.fixture
def two(browser, tmp_path) -> webdriver.Chrome:
    """The page of two runs, which were given the same pairs."""
    runs = [draw_run("mine"), draw_run("yours", epochs=2)]
    return _open(browser, tmp_path, render(load_template(), runs, [draw_translated(ONE), draw_translated(OTHER)]))


def _open(browser: webdriver.Chrome, folder, content: bytes) -> webdriver.Chrome:
    (folder / "report.html").write_bytes(content)
    browser.get((folder / "report.html").as_uri())
    return browser


def _all(browser: webdriver.Chrome, selector: str) -> list:
    return browser.find_elements(By.CSS_SELECTOR, selector)


def _order(browser: webdriver.Chrome) -> list[str]:
    return [card.text for card in _all(browser, ".pair h3")]


def test_the_slider_moves_between_generated_and_target(one):
    slider = _all(one, ".slider")[0]
    line = _all(one, ".line")[0]
    picture = _all(one, ".compare")[0]

    def place() -> float:
        """Of the line on the picture, percent of its width."""
        script = "const [a, b] = [...arguments].map((e) => e.getBoundingClientRect()); return (a.x + 1 - b.x) / b.width"
        return 100 * one.execute_script(script, line, picture)

    def cut() -> str:
        return one.execute_script("return getComputedStyle(arguments[0]).clipPath", _all(one, ".over")[0])

    assert place() == pytest.approx(50, abs=0.5)
    slider.send_keys(Keys.ARROW_RIGHT)
    assert place() == pytest.approx(51, abs=0.5)
    slider.send_keys(Keys.HOME)
    assert place() == pytest.approx(0, abs=0.5)
    assert cut().startswith("inset(0px 100%")
    assert slider.get_attribute("aria-valuetext") == "generated 0 %, target 100 %"
    width = picture.size["width"]
    ActionChains(one).move_to_element(picture).click_and_hold().move_by_offset(round(width / 4), 0).release().perform()
    assert place() == pytest.approx(75, abs=1.5)  # one step is a percent, and the pointer's place a whole pixel
    assert _all(one, ".slider")[1].get_attribute("value") == "50"


def test_the_scrubber_goes_through_the_epochs(one):
    scrubber, sheet = _all(one, "#scrubber")[0], _all(one, ".sheet")[0]
    samples = draw_run().samples
    assert (sheet.get_attribute("src"), _all(one, "#epoch")[0].text) == (samples[3].url, "4")
    scrubber.send_keys(Keys.ARROW_LEFT)
    assert (sheet.get_attribute("src"), _all(one, "#epoch")[0].text) == (samples[2].url, "3")
    scrubber.send_keys(Keys.HOME)
    assert sheet.get_attribute("src") == samples[0].url
    assert "epoch 1" in sheet.get_attribute("alt")
    assert _all(one, ".moment")[0].text == "epoch 1"


def test_pairs_are_sorted_by_any_metric(one):
    """Equal pictures, whose PSNR is infinite, are the best."""
    sort, order = (Select(_all(one, selector)[0]) for selector in (".sort", ".order"))
    assert _order(one) == ["b.png", "c.png", "a.png"]
    assert [each.text for each in _all(one, ".sorted")] == ["L1 0.3000", "L1 0.2000", "L1 0.1000"]
    order.select_by_value("best")
    assert _order(one) == ["a.png", "c.png", "b.png"]
    sort.select_by_visible_text("PSNR")
    assert _order(one) == ["c.png", "b.png", "a.png"]
    order.select_by_value("worst")
    assert _order(one) == ["a.png", "b.png", "c.png"]
    assert _all(one, ".sorted")[2].text == "PSNR inf"


def test_two_runs_side_by_side(two):
    assert len(_all(two, ".pair")[0].find_elements(By.CSS_SELECTOR, ".compare")) == 2
    sort = Select(_all(two, ".sort")[0])
    assert _order(two) == ["b.png", "c.png", "a.png"]
    sort.select_by_value("1:l1")
    assert _order(two) == ["a.png", "b.png", "c.png"]
    sort.select_by_value("-:l1")  # by .4, 0 and -.1
    assert _order(two) == ["a.png", "b.png", "c.png"]
    sort.select_by_value("-:psnr")  # infinitely, 1 dB, not at all
    assert _order(two) == ["c.png", "b.png", "a.png"]
    _all(two, "#scrubber")[0].send_keys(Keys.END)
    assert [each.text for each in _all(two, ".moment")] == ["epoch 4", "epoch 2"]
    _all(two, "#scrubber")[0].send_keys(Keys.HOME)
    assert [each.text for each in _all(two, ".moment")] == ["epoch 1", "epoch 1"]
    assert len(_all(two, ".chart")[0].find_elements(By.CSS_SELECTOR, "polyline")) == 4


def test_curves_show_their_values_and_can_be_hidden(one):
    chart = _all(one, ".chart")[1]  # L1: of training pairs .1 to .4, of val/ a tenth of it

    def readings() -> list[str]:
        return [each.text for each in chart.find_elements(By.CSS_SELECTOR, ".reading")]

    assert readings() == ["0.4000", "0.0400"]
    svg = chart.find_element(By.CSS_SELECTOR, ".plot svg")
    ActionChains(one).move_to_element(chart.find_elements(By.CSS_SELECTOR, "circle.dot")[1]).perform()
    assert readings() == ["0.2000 at 2", "0.0200 at 2"]
    one.execute_script("arguments[0].focus()", svg)
    svg.send_keys(Keys.ARROW_RIGHT)
    assert readings() == ["0.3000 at 3", "0.0300 at 3"]
    svg.send_keys(Keys.ESCAPE)
    assert readings() == ["0.4000", "0.0400"]
    chart.find_elements(By.CSS_SELECTOR, ".legend button")[0].click()
    assert len(chart.find_elements(By.CSS_SELECTOR, "polyline")) == 1
    assert readings() == ["", "0.0400"]
    assert one.switch_to.active_element.get_attribute("aria-pressed") == "false"
    one.switch_to.active_element.send_keys(Keys.ENTER)
    assert len(chart.find_elements(By.CSS_SELECTOR, "polyline")) == 2


def test_hostile_names_stay_text(browser, tmp_path):
    ends = "</script><script>document.title = 2</script>"
    pairs = draw_translated({HOSTILE + ends: {"l1": 0.1, "psnr": 9.0}})
    _open(browser, tmp_path, render(load_template(), [draw_run(HOSTILE + ends)], [pairs]))
    assert browser.title == f"{HOSTILE + ends} – p2p-report"
    assert _order(browser) == [HOSTILE + ends]
    assert len(_all(browser, "script")) == 2


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_is_wider_than_the_window(two, width):
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    two.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        assert two.execute_script("return document.documentElement.scrollWidth") <= width
        for card in _all(two, ".compare"):
            assert card.size["width"] >= 60  # there is something to see
    finally:
        two.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_followed_run_refreshes_and_keeps_its_place(browser):
    epochs = [2]

    def make(version: str) -> bytes:
        run = draw_run(epochs=epochs[0], evaluations={"val": [draw_record(3 * epochs[0], 0.5)]})
        return render(load_template(), [run], [draw_translated(ONE, step=epochs[0])], version)

    server = make_server(0, lambda: str(epochs[0]), make)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    refresh = "const done = arguments[0]; refresh().then(() => done())"
    try:
        browser.get(f"http://127.0.0.1:{server.server_port}/")
        browser.set_script_timeout(60)
        _all(browser, "#scrubber")[0].send_keys(Keys.HOME)
        Select(_all(browser, ".order")[0]).select_by_value("best")
        epochs[0] = 4
        browser.execute_async_script(refresh)
        assert "at step 4" in _all(browser, "#pairs p")[0].text
        assert _all(browser, ".reading")[0].text == "0.400"
        assert (_all(browser, "#epoch")[0].text, _all(browser, "#scrubber")[0].get_attribute("max")) == ("1", "3")
        assert _order(browser) == ["a.png", "c.png", "b.png"]
        assert _all(browser, "#following")[0].text == "follows the run"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    browser.execute_async_script(refresh)
    assert _all(browser, "#following")[0].text == "p2p-report does not answer"
    browser.get("about:blank")
    lost = browser.get_log("browser")  # that the server has gone
    assert all("ERR_CONNECTION_REFUSED" in entry["message"] for entry in lost)
