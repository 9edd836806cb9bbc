"""The page as a visitor meets it: in Chromium, from upload to picture."""

import importlib.util
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.parse
from pathlib import Path

import numpy as np
import pytest
from conftest import (
    DEADLINE_SECS,
    ROOT,
    assert_refused,
    call_command,
    draw_pair,
    names,
    run_command,
    start_command,
    wait_for,
)
from PIL import Image

from p2p_keras import load
from p2p_keras.cli import demo as demo_command
from p2p_keras.errors import UserError

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = [name for name in ("gradio", "selenium") if importlib.util.find_spec(name) is None]
MISSING += [name for name, path in (("chromium", CHROMIUM), ("chromedriver", DRIVER)) if not path]
FLAGS = "headless=new no-sandbox disable-gpu disable-quic no-first-run disable-background-networking"
FLAGS += " disable-component-update disable-sync window-size=1300,1000"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "--model is needed, as --model=runs/a2s"),
        (["--model=/no/such/run"], "There is no /no/such/run"),
        (["--model=.", "--port=70000"], "--port must be from 0 to 65535. Received: 70000"),
    ],
)
def test_a_mistake_is_said_before_anything_is_loaded(flags, words):
    with pytest.raises(UserError, match=re.escape(words)):
        call_command(demo_command, *flags)


def test_without_gradio_it_says_what_to_install():
    code = "import sys; sys.modules['gradio'] = None; import p2p_keras.demo.page"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    last = done.stderr.splitlines()[-1]
    assert last.startswith("p2p_keras.errors.UserError: The page is made with gradio, and it is not installed")
    assert last.endswith(f"{sys.executable} -m pip install 'gradio>=6.31,<7'")


@pytest.fixture
def page(finished, tmp_path):
    """The command with a run, and its page's address. Ctrl-C ends it in one line, and leaves nothing behind."""
    (tmp_path / "scratch").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "scratch")}
    process = start_command("demo", f"--model={finished[0]}", "--port=0", env=environment)
    try:
        said = process.stdout.readline()
        yield re.match(r"(http://127\.0\.0\.1:\d+/)  \(Ctrl-C ends it\)\n", said)[1]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=DEADLINE_SECS)
    finally:
        process.kill()
    assert (process.returncode, out) == (130, "")
    assert err == "\ndemo.py: stopped; what was saved before is kept\n"
    assert names(tmp_path / "scratch") == []


@pytest.fixture
def browser(tmp_path, monkeypatch):
    from selenium import webdriver

    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = tempfile.mkdtemp(dir=tmp_path)
    for flag in (*FLAGS.split(), f"user-data-dir={profile}"):
        options.add_argument(f"--{flag}")
    options.add_experimental_option("prefs", {"download.default_directory": str(tmp_path / "downloads")})
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield browser
    browser.quit()


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
def test_from_upload_to_picture(page, browser, finished, tmp_path):
    picture = draw_pair(7, size=40)[0]
    Image.fromarray(picture).save(tmp_path / "a.png")
    (tmp_path / "text.png").write_text("no picture")

    def find(selector: str):
        return browser.find_elements("css selector", selector)

    def message() -> str:
        return find("#message")[0].text

    def drop(file: str, words: str) -> None:
        find("#picture-picture input[type=file]")[0].send_keys(str(tmp_path / file))
        wait_for(lambda: words in message())

    browser.get(page)
    wait_for(lambda: find("#picture-picture input[type=file]"))
    drop("text.png", "This picture cannot be used: it is not an image.")
    browser.get(page)
    wait_for(lambda: find("#picture-picture input[type=file]"))
    drop("a.png", "40 x 40 pixels")

    expected = load(finished[0])(picture)
    wait_for(lambda: find("#download")[0].is_enabled())
    find("#download")[0].click()
    downloaded = tmp_path / "downloads" / "generated.png"
    wait_for(downloaded.exists)
    wait_for(lambda: _whole(downloaded))
    np.testing.assert_array_equal(np.asarray(Image.open(downloaded)), expected)

    shown = [image.get_property("naturalWidth") for image in find("#result img")]
    assert shown == [480, 480]  # both enlarged 12 times

    find("#examples .thumbnail-lg")[1].click()  # is translated at once
    wait_for(lambda: "32 x 32 pixels" in message())

    hosts = set()
    for entry in browser.get_log("performance"):
        event = json.loads(entry["message"])["message"]
        if event["method"] == "Network.requestWillBeSent":
            url = urllib.parse.urlsplit(event["params"]["request"]["url"])
            hosts |= {url.netloc} if url.scheme in ("http", "https", "ws", "wss") else set()
    assert hosts == {urllib.parse.urlsplit(page).netloc}


def _whole(path: Path) -> bool:
    try:
        Image.open(io.BytesIO(path.read_bytes())).load()
        return True
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif("gradio" in MISSING, reason="not installed: gradio")
def test_a_folder_that_is_no_model_is_one_line_and_status_2(tmp_path):
    assert_refused(run_command("demo", f"--model={tmp_path}", "--port=0"), "is none of them. For one: --model=runs/a2s")
