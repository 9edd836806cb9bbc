"""The page as a visitor meets it: in Chromium, from upload to picture."""

import contextlib
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from conftest import (
    DEADLINE_SECS,
    ROOT,
    as_file,
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


class Shown(NamedTuple):
    """A page that the command shows."""

    address: str
    process: subprocess.Popen
    scratch: Path  # its folder for temporary files


@contextlib.contextmanager
def _shown(model: Path, tmp_path: Path, **environment: str) -> Iterator[Shown]:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch), **environment}
    process = start_command("demo", f"--model={model}", "--port=0", env=environment)
    try:
        said = process.stdout.readline()
        yield Shown(re.match(r"(http://127\.0\.0\.1:\d+/)  \(Ctrl-C ends it\)\n", said)[1], process, scratch)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def page(finished, tmp_path):
    """The command with a run, and its page's address. Ctrl-C ends it, and leaves nothing behind."""
    with _shown(finished[0], tmp_path) as shown:
        yield shown.address
        shown.process.send_signal(signal.SIGINT)
        out, err = shown.process.communicate(timeout=DEADLINE_SECS)
        assert (shown.process.returncode, out, err) == (0, "\n", "")
        assert names(shown.scratch) == []


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


@pytest.mark.slow
@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
def test_a_stroke_is_in_the_picture_that_is_translated(page, browser, finished, tmp_path):
    from selenium.webdriver import ActionChains

    def find(selector: str):
        return browser.find_elements("css selector", selector)

    def translate() -> list[np.ndarray]:
        """What is then shown: the input and the generated picture, each pixel once."""
        before = [image.get_attribute("src") for image in find("#result img")]
        find("#translate")[0].click()
        wait_for(lambda: len(find("#result img")) == 2 and find("#result img")[1].get_attribute("src") not in before)
        shown = [urllib.request.urlopen(image.get_attribute("src")).read() for image in find("#result img")]
        return [np.asarray(Image.open(io.BytesIO(content)))[8::16, 8::16] for content in shown]

    browser.get(page)
    wait_for(lambda: find("button[role=tab]"))
    find("button[role=tab]")[1].click()
    wait_for(lambda: find("#canvas-picture canvas") and find("#canvas-picture canvas")[0].is_displayed())
    wait_for(lambda: find("#canvas-picture button[aria-label=Brush]"))
    empty, _ = translate()
    assert (empty == 255).all()
    canvas = find("#canvas-picture canvas")[0]
    stroke = ActionChains(browser).move_to_element_with_offset(canvas, -100, 0).click_and_hold()
    stroke.move_by_offset(100, 0).move_by_offset(100, 0).release().perform()
    painted, generated = translate()
    assert painted.shape == (32, 32, 3)
    marked = (painted != 255).any(axis=2)
    assert marked[:, 12:20].any(axis=0).all()  # across the middle
    assert not marked[:8].any()
    assert not marked[-8:].any()
    np.testing.assert_array_equal(generated, load(finished[0])(painted))


def _whole(path: Path) -> bool:
    try:
        Image.open(io.BytesIO(path.read_bytes())).load()
        return True
    except OSError:
        return False


class Visitor:
    """A program that talks to a page as a browser does, and says what no browser would."""

    def __init__(self, address: str) -> None:
        self._api = f"{address}gradio_api/"
        config = json.loads(self._ask(f"{address}config"))
        self._types = {component["id"]: component["type"] for component in config["components"]}
        self._events = {
            (self._types[event["targets"][0][0]], event["targets"][0][1]): event for event in config["dependencies"]
        }

    def number_of(self, component: str, event: str) -> int:
        """Which function an event calls."""
        return self._events[component, event]["id"]

    def get(self, path: str) -> bytes:
        """What `gradio_api/path` answers; urllib.error.HTTPError if it refuses."""
        return self._ask(self._api + path)

    def post(self, path: str, content: bytes) -> bytes:
        """What is answered to JSON."""
        return self._ask(self._api + path, content, "application/json")

    def upload(self, content: bytes) -> str:
        """Where the page puts a file."""
        body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n%s\r\n--x--\r\n' % content
        return json.loads(self._ask(f"{self._api}upload", body, "multipart/form-data; boundary=x"))[0]

    def translate(self, path: str, **meta) -> dict:
        """What comes of a picture, whose file is said to be there: gradio's `output`."""
        return self._run(("image", "change"), {"image": _file(path, **meta)}, uuid.uuid4().hex)

    def paint(self, path: str, *layers: str, **meta) -> dict:
        """What comes of a painting likewise."""
        session = uuid.uuid4().hex
        self._run(("tabitem", "select"), {}, session)  # of the second tab, which is the last to have such an event
        painting = {"background": None, "layers": [_file(layer) for layer in layers], "composite": _file(path, **meta)}
        return self._run(("button", "click"), {"imageeditor": painting}, session)

    def _run(self, trigger: tuple[str, str], given: dict, session: str) -> dict:
        event = self._events[trigger]
        data = [given.get(self._types[number]) for number in event["inputs"]]
        joining = {
            "data": data,
            "fn_index": event["id"],
            "session_hash": session,
            "trigger_id": event["targets"][0][0],
        }
        self._ask(f"{self._api}queue/join", json.dumps(joining).encode(), "application/json")
        for line in self.get(f"queue/data?session_hash={session}").decode().splitlines():
            message = json.loads(line.removeprefix("data: ") or "{}")
            if message.get("msg") == "process_completed":
                return message["output"]
        raise AssertionError("no answer")

    def _ask(self, url: str, body: bytes | None = None, form: str = "") -> bytes:
        request = urllib.request.Request(url, body, {"Content-Type": form} if form else {})
        without_proxy = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with without_proxy.open(request, timeout=DEADLINE_SECS) as answer:
            return answer.read()


def _file(path: str, **meta) -> dict:
    """As a browser names a file; gradio looks where it lies only if `meta` is as it sends it."""
    return {"path": path, **(meta or {"meta": {"_type": "gradio.FileData"}})}


needs_gradio = pytest.mark.skipif("gradio" in MISSING, reason="not installed: gradio")


@pytest.mark.slow
@needs_gradio
def test_a_visitor_is_given_no_file_of_this_machine(finished, tmp_path):
    picture, text = tmp_path / "secret.png", tmp_path / "secret.txt"
    picture.write_bytes(as_file(draw_pair(7)[0]))
    text.write_text("secret")
    with _shown(finished[0], tmp_path) as shown:
        visitor = Visitor(shown.address)
        assert visitor.translate(visitor.upload(picture.read_bytes()))["data"][1] == "32 x 32 pixels"
        for path in (picture, text, os.path.relpath(picture, ROOT)):
            for answer in (visitor.translate(str(path)), visitor.paint(str(path))):
                assert "data" not in answer
                assert "it was not uploaded by a user" in answer["error"]
            for meta in ({"meta": {}}, {"meta": None}, {"url": None}):  # the last is without
                for answer in (visitor.translate(str(path), **meta), visitor.paint(str(path), **meta)):
                    assert "data" not in answer
            with pytest.raises(urllib.error.HTTPError, match="403"):
                visitor.get(f"file={path}")
        for path in ("a\0b", "a" * 5000):  # which no file can be called
            assert "it was not uploaded by a user" in visitor.translate(path, meta={})["error"]
        for path in ("process_recording", "component_server", "vibe-code", "call/predict", "stream/x", "login"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                visitor.post(path, b"{}")
        for path in ("proxy=http://localhost/a.png", "monitoring", "info", "queue/status", "../proxy=x", "%2e%2e/runs"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                visitor.get(path)
        past_the_queue = {"data": [], "fn_index": visitor.number_of("image", "change"), "session_hash": "visitor"}
        with pytest.raises(urllib.error.HTTPError, match="404"):
            visitor.post("run/predict", json.dumps(past_the_queue).encode())
        assert not list(shown.scratch.rglob("secret.*"))


@pytest.mark.slow
@needs_gradio
def test_a_visitor_cannot_have_the_page_ask_other_hosts(finished, tmp_path):
    """Not even where a name is: gradio asks a public server for names that lead to this machine."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0)
        through = {name: f"http://127.0.0.1:{proxy.getsockname()[1]}" for name in ("https_proxy", "HTTPS_PROXY")}
        with _shown(finished[0], tmp_path, **through) as shown:
            visitor, url = Visitor(shown.address), "http://localhost/a.png"
            for answer in (visitor.translate(url), visitor.paint(url)):
                assert "asks no other host" in answer["error"]
            with pytest.raises(urllib.error.HTTPError, match="403"):
                visitor.get(f"file={url}")
        with pytest.raises(BlockingIOError):
            proxy.accept()


@pytest.mark.slow
@needs_gradio
def test_other_sites_cannot_use_the_page(page):
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(urllib.request.Request(f"{page}config", headers=headers))


@pytest.mark.slow
@needs_gradio
def test_of_a_painting_only_what_is_seen_is_decoded(page):
    """Each layer may be as large as any picture, and a visitor may send any number of them."""
    visitor = Visitor(page)
    painting, text = visitor.upload(as_file(draw_pair(7)[0])), visitor.upload(b"no picture")
    assert visitor.paint(painting, text)["data"][1] == "32 x 32 pixels"
    assert visitor.paint(text)["data"][1] == "**This painting cannot be used: it is not an image.**"


@pytest.mark.parametrize("name", ["demo", "report"])
def test_its_end_waits_for_no_translation(name):
    """Which nothing can stop, and which takes minutes in tiles. Python by itself ends when all threads have."""
    code = f"""
import threading, time
from p2p_keras.cli import {name} as server
server.main = lambda values: threading.Thread(target=time.sleep, args=({DEADLINE_SECS},)).start()
server.entry_point()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=DEADLINE_SECS / 2, check=False)
    assert done.returncode == 0


@pytest.mark.slow
@needs_gradio
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_ended_otherwise_it_leaves_nothing_behind_either(finished, tmp_path, number):
    with _shown(finished[0], tmp_path) as shown:
        Visitor(shown.address).upload(b"something of a visitor's")
        shown.process.send_signal(number)
        assert shown.process.communicate(timeout=DEADLINE_SECS) == ("", "")
        assert shown.process.returncode == 128 + number
        assert names(shown.scratch) == []


@pytest.mark.slow
@needs_gradio
def test_a_folder_that_is_no_model_is_one_line_and_status_2(tmp_path):
    assert_refused(run_command("demo", f"--model={tmp_path}", "--port=0"), "is none of them. For one: --model=runs/a2s")
