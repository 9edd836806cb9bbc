"""Takes docs/report_page.png, of p2p-report's page of a run of the town, and docs/demo_page.png, of p2p-demo's.

    python docs/pages.py --workdir=RUN

Needs Chromium with its driver, selenium, jinja2 and gradio (the extras `test` and `demo`).
"""

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.common.by import By

DOCS = Path(__file__).parent
FLAGS = (
    "headless=new no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
    "disable-component-update disable-sync hide-scrollbars"
)
WIDTH, HEIGHT = 1200, 1060  # of the window; its bars take 140
WAIT_SECS = 120


def main() -> None:
    """Takes both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", required=True, help="A run of the town.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        options = webdriver.ChromeOptions()
        for flag in (*FLAGS.split(), f"user-data-dir={scratch}/profile", f"window-size={WIDTH},{HEIGHT}"):
            options.add_argument(f"--{flag}")
        browser = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
        try:
            take_report(browser, arguments.workdir, Path(scratch) / "report.html")
            take_demo(browser)
        finally:
            browser.quit()


def take_report(browser: webdriver.Chrome, workdir: str, page: Path) -> None:
    """Its pairs, the worst first."""
    subprocess.run([*command("report"), f"--workdir={workdir}", "--pairs=12", f"--output={page}"], check=True)
    browser.get(page.as_uri())
    browser.execute_script("document.getElementById('pairs').scrollIntoView()")
    time.sleep(2)  # pictures are decoded when they come into view
    browser.save_screenshot(str(DOCS / "report_page.png"))


def take_demo(browser: webdriver.Chrome) -> None:
    """With an example translated."""
    demo = subprocess.Popen([*command("demo"), "--model=town", "--port=0"], stdout=subprocess.PIPE, text=True)
    try:
        browser.get(demo.stdout.readline().split()[0])
        wait_for(lambda: find(browser, "#examples .thumbnail-lg"))
        find(browser, "#examples .thumbnail-lg")[3].click()
        wait_for(lambda: len(find(browser, "#result img")) > 1)
        time.sleep(2)  # until the pictures have faded in
        browser.save_screenshot(str(DOCS / "demo_page.png"))
    finally:
        demo.send_signal(signal.SIGINT)
        demo.wait()


def command(name: str) -> list[str]:
    """One of this package's commands."""
    return [sys.executable, "-m", f"p2p_keras.cli.{name}"]


def find(browser: webdriver.Chrome, selector: str) -> list:
    """All elements that match, from the top down."""
    return browser.find_elements(By.CSS_SELECTOR, selector)


def wait_for(condition: Callable[[], object]) -> None:
    """Until it is so."""
    until = time.monotonic() + WAIT_SECS
    while not condition():
        assert time.monotonic() < until, "the page did not come to this"
        time.sleep(0.1)


if __name__ == "__main__":
    main()
