"""Two logical CPU devices before TensorFlow starts, and small drawn pairs that tell their own story."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import copy
import dataclasses
import http.server
import io
import json
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from p2p_keras.config import TrainConfig
from p2p_keras.data.pairs import Reading
from p2p_keras.data.prepare import sources, splits
from p2p_keras.data.prepare.run import Outcome, prepare
from p2p_keras.data.prepare.stack import Form
from p2p_keras.images.kinds import Kind
from p2p_keras.metrics.inception import Extractor
from p2p_keras.sizes import Size
from p2p_keras.training.run import train
from p2p_keras.training.step import LOSS_NAMES
from p2p_keras.workdir import checkpoints
from p2p_keras.workdir.history import read_history

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

# What a script starts in the background ignores Ctrl-C, and what nohup starts a closed terminal, and hands that on to
# all that it starts itself. The commands under test must not.
for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, handler)

ROOT = Path(__file__).parents[1]
READING = Reading(image_size=Size(32, 32), load_size=Size(36, 36))  # the drawn pairs as they are: two panels
# Whoever waits for something gives up after so long. It is never what a test measures, only the end of one that hangs,
# so it is long enough for any loaded machine.
DEADLINE_SECS = 600
_PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}


@pytest.fixture(scope="session")
def one_device() -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy(["CPU:0"])


@pytest.fixture(scope="session")
def two_devices() -> tf.distribute.Strategy:
    """The one object for both: a second one in this process would count its collective operations from 1 again."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def quiet(line: str) -> None:
    """A `report` that nobody reads."""


def raise_(error: BaseException) -> None:
    """For lambdas."""
    raise error


def wait_for(condition: Callable[[], object], process: subprocess.Popen | None = None) -> None:
    """Waits until something is so; fails if the process that is to bring it about ends before."""
    end = time.monotonic() + DEADLINE_SECS
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


def at_once(*works: Callable[[], object]) -> list:
    """Runs functions side by side, each in a thread of its own; what each returned or raised, in their order."""
    results: list[Any] = [None] * len(works)

    def run(number: int) -> None:
        try:
            results[number] = works[number]()
        except BaseException as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_SECS)
        assert not thread.is_alive()
    return results


def start_command(name: str, *flags: str, **options) -> subprocess.Popen:
    """Starts `p2p-NAME` in a process of its own, as a user does."""
    return subprocess.Popen([sys.executable, "-m", f"p2p_keras.cli.{name}", *flags], **{**_PIPES, **options})


def start_hosts(program: Sequence[str], hosts: list[list[str]], scratch: Path) -> list[subprocess.Popen]:
    """Starts a Python program as on several hosts, each with its own flags and with `scratch` for temporary files."""
    taken = [socket.create_server(("localhost", 0)) for _ in hosts]
    members, started = [f"localhost:{one.getsockname()[1]}" for one in taken], []
    for one in taken:
        one.close()
    for index, flags in enumerate(hosts):
        cluster = {"cluster": {"worker": members}, "task": {"type": "worker", "index": index}}
        more = {"TF_CONFIG": json.dumps(cluster), "CUDA_VISIBLE_DEVICES": "", "TMPDIR": str(scratch)}
        command = [sys.executable, *program, *flags]
        started.append(subprocess.Popen(command, **{**_PIPES, "env": {**os.environ, **more}}))
    return started


def finish_all(started: list[subprocess.Popen]) -> list[tuple[int, str, str]]:
    """Waits for each; its status, stdout and stderr."""
    results = []
    try:
        for process in started:
            out, err = process.communicate(timeout=DEADLINE_SECS)
            results.append((process.returncode, out, err))
    finally:
        for process in started:
            process.kill()
    return results


def run_command(name: str, *flags: str, **options) -> subprocess.CompletedProcess:
    """The same to its end."""
    command = [sys.executable, "-m", f"p2p_keras.cli.{name}", *flags]
    return subprocess.run(command, **{**_PIPES, **options}, timeout=DEADLINE_SECS, check=False)


def call_command(command: ModuleType, *flags: str) -> int | None:
    """A command of `p2p_keras.cli` in this process, where things can be put in its way; its exit status."""
    values = copy.deepcopy(command.FLAGS)
    values(["p2p", *flags])
    return command.main(values)


def assert_refused(done: subprocess.CompletedProcess, *words: str) -> None:
    """A user's mistake: exit status 2, and one line on stderr that says it in these words."""
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done
    for word in words:
        assert word in done.stderr


def draw_pair(index: int, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """A coloured square on black, and the same square's negative on white: each predicts the other."""
    rng = np.random.RandomState(index)
    top, left = rng.randint(0, size // 2, 2)
    colour = rng.randint(40, 216, 3)
    first = np.zeros((size, size, 3), np.uint8)
    first[top : top + size // 2, left : left + size // 2] = colour
    return first, 255 - first


def negative(image: tf.Tensor) -> tf.Tensor:
    """What makes of every drawn pair's first image the second: a perfect generator."""
    return -image


def draw_levels(kind: Kind, *shape: int) -> np.ndarray:
    """Noise of a kind's levels or classes, as its files hold it: (*shape, depth)."""
    top = kind.channels if kind.labels else kind.levels + 1
    return np.random.default_rng(0).integers(0, top, (*shape, kind.depth)).astype(kind.dtype)


def cell(sheet: np.ndarray, row: int, column: int, size: int = 32, captions: bool = False) -> np.ndarray:
    """One image of a sheet (`images.sheets.grid`), which shows those of under 128 pixels enlarged to that."""
    top, left, zoom = 20 + row * (150 if captions else 130), 2 + column * 130, 128 // size
    shown = sheet[top : top + 128, left : left + 128]
    image = shown[::zoom, ::zoom]
    np.testing.assert_array_equal(shown, image.repeat(zoom, axis=0).repeat(zoom, axis=1))
    return image


def as_file(image: np.ndarray | Image.Image, form: str = "PNG", **options) -> bytes:
    """An image's file as Pillow writes it."""
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, form, **options)
    return buffer.getvalue()


def write_bomb(path: Path) -> None:
    """A PNG whose header claims 13000x13000 pixels and whose body is that of a small one."""
    content = bytearray(as_file(Image.new("RGB", (32, 32))))
    content[16:24] = (13000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    path.write_bytes(content)


def hidden_size_png(width: int, height: int) -> bytes:
    """A grey PNG of zeros before whose header there is a chunk of an unknown kind that looks like one of 8x8 pixels."""
    rows = zlib.compress(bytes((width + 1) * height))
    sizes = [struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0) for size in ((8, 8), (width, height))]
    parts = zip((b"abCd", b"IHDR", b"IDAT", b"IEND"), (*sizes, rows, b""), strict=True)
    return b"\x89PNG\r\n\x1a\n" + b"".join(_png_chunk(*part) for part in parts)


def _png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def many_scans(image: np.ndarray, count: int) -> bytes:
    """A progressive JPEG whose last scan is begun again and again."""
    file = as_file(image, "JPEG", progressive=True)
    last = file.rindex(b"\xff\xda")
    return file[:-2] + file[last : last + 12] * (count - file.count(b"\xff\xda")) + file[-2:]


def write_pairs(folder: Path, count: int, size: int = 32, first_index: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.fromarray(np.concatenate(draw_pair(first_index + i, size), axis=1)).save(folder / f"{i:03d}.png")


def png_of(numbers: np.ndarray, bits: int, indexed: bool = False, transparent: int | None = None) -> bytes:
    """A grey or indexed PNG of 1, 2, 4 or 8 bits that holds exactly these numbers (H, W), which Pillow cannot write.

    Args:
        numbers: Below 2**bits.
        bits: Of each number.
        indexed: The numbers are entries of a palette of 2**bits colours.
        transparent: A number that a tRNS chunk declares transparent.
    """

    height, width = numbers.shape
    digits = np.unpackbits(numbers.astype(np.uint8)[..., np.newaxis], axis=-1)[..., 8 - bits :]
    rows = np.packbits(digits.reshape(height, -1), axis=1)
    rows = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1)  # each begins with its filter, 0
    chunks = [_png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 3 if indexed else 0, 0, 0, 0))]
    if indexed:
        chunks.append(_png_chunk(b"PLTE", np.random.RandomState(0).bytes(3 * 2**bits)))
    if transparent is not None:
        opaque_until = b"\xff" * transparent + b"\x00"
        chunks.append(_png_chunk(b"tRNS", opaque_until if indexed else struct.pack(">H", transparent)))
    chunks += [_png_chunk(b"IDAT", zlib.compress(rows.tobytes())), _png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.fixture
def pairs_dir(tmp_path: Path) -> Path:
    """12 training and 3 validation pairs of 32x32, two panels without names."""
    write_pairs(tmp_path / "data" / "train", 12)
    write_pairs(tmp_path / "data" / "val", 3, first_index=100)
    return tmp_path / "data"


def names(folder: Path) -> list[str]:
    """What lies in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())


def tree(folder: Path) -> dict[str, bytes]:
    """Every file in a folder, by its path beneath it: name -> content."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def small_config(data: Path, **settings) -> TrainConfig:
    """A run that takes seconds: of 12 pairs in batches of 4, so three steps an epoch."""
    small = {
        "image_size": 32,
        "base_filters": 4,
        "batch_size": 4,
        "epochs": 2,
        "precision": "float32",
        "direction": "AtoB",
        "samples_every_epochs": 2,
    }
    return TrainConfig(**{**small, "data_dir": str(data), **settings})


_shared: dict[Path, dict] = {}  # folders that several tests look at, and what they held


def share(folder: Path) -> Path:
    """Every test from now on that writes to the folder fails; for fixtures whose result several tests look at."""
    _shared[folder] = _state(folder)
    return folder


def _state(folder: Path) -> dict[str, tuple[int, int, int]]:
    """All that is in a folder, with what changes when it is written to: a file's number, size and time, a folder's."""
    paths = [folder, *folder.rglob("*")]
    return {
        str(path): (about.st_ino, about.st_size, about.st_mtime_ns)
        for path, about in ((path, path.stat()) for path in paths)
    }


@pytest.fixture(autouse=True)
def _shared_folders_stay_as_they_were():
    yield
    for folder, before in _shared.items():
        after = _state(folder)
        changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
        _shared[folder] = after  # so that only the test that wrote is told
        assert not changed, "this test wrote to a folder that others share; let it take a copy"


@pytest.fixture(scope="session")
def finished(tmp_path_factory, one_device) -> tuple[Path, Path, list[str]]:
    """A run of two epochs that nothing interrupted, not to be written to: its folder, its data, what it reported."""
    data = tmp_path_factory.mktemp("pairs")
    write_pairs(data / "train", 12)
    write_pairs(data / "val", 3, first_index=100)
    workdir, told = tmp_path_factory.mktemp("run"), []
    assert train(small_config(data), workdir, one_device, told.append) is None
    return share(workdir), share(data), told


@pytest.fixture
def finished_copy(finished, tmp_path) -> Path:
    """A copy of that run to be written to; its data is still the shared one."""
    return shutil.copytree(finished[0], tmp_path / "run")


def read_events(folder: Path) -> dict[str, list[tuple[int, Any]]]:
    """What TensorBoard would find: of each tag the steps and values, as they were written."""
    found: dict[str, list] = {}
    for path in sorted(folder.glob("events*")):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value))
    return found


def checkpoint_values(workdir: Path, step: int) -> dict[str, np.ndarray]:
    """Everything in a checkpoint, by name."""
    reader = tf.train.load_checkpoint(str(checkpoints.path_of(workdir / "checkpoints", step) / "checkpoint"))
    types = reader.get_variable_to_dtype_map()
    return {name: reader.get_tensor(name) for name, dtype in types.items() if dtype != tf.string}


def assert_same_end(one: Path, other: Path, step: int) -> None:
    """Two runs that ended bit-equal: checkpoint, losses, sample grids."""
    first, second = checkpoint_values(one, step), checkpoint_values(other, step)
    assert first.keys() == second.keys()
    assert len(first) > 100
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)
    for x, y in zip(read_history(one), read_history(other), strict=True):
        assert [x[name] for name in ("step", "epoch", *LOSS_NAMES)] == [
            y[name] for name in ("step", "epoch", *LOSS_NAMES)
        ]
    samples = sorted(path.name for path in (one / "samples").iterdir())
    assert samples == sorted(path.name for path in (other / "samples").iterdir())
    for name in samples:
        assert (one / "samples" / name).read_bytes() == (other / "samples" / name).read_bytes()


def write_two_folders(root: Path, count: int = 12, size: int = 24) -> None:
    """Drawn pairs as single images of equal names, some of them deeper: street/ and aerial/."""
    for number in range(count):
        for folder, image in zip(("street", "aerial"), draw_pair(number, size), strict=True):
            (root / folder / "deep").mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(root / folder / ("deep" if number % 3 else "") / f"{number:02d}.png")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """12 pairs of `write_two_folders`."""
    write_two_folders(tmp_path / "raw")
    return tmp_path / "raw"


SMALL_FORM = Form(image_size=Size(16, 16), format="png")


def prepare_folders(
    root: Path, output: Path, form: Form = SMALL_FORM, folders=("street", "aerial"), panels=(), **more
) -> Outcome:
    """What p2p-prepare does with --first and --second, in this process: 60, 20 and 20 per cent."""
    found = sources.two_folders([root / folder for folder in folders], panels)
    parts = splits.by_hash(found.sources, splits.Shares(60, 20, 20))
    return prepare(found, parts, output, form, {"shares": [60, 20, 20]}, **more)


def run_prepare(*flags: str) -> subprocess.CompletedProcess:
    """The command, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "p2p_keras.cli.prepare", *flags], capture_output=True, text=True, check=False
    )


class Killed(BaseException):
    """Stands for kill -9: nobody catches it."""


def kill_at(monkeypatch, place: object, name: str, call: int = 1) -> None:
    """The so-many-th call of a function does not come back."""
    original, calls = getattr(place, name), []

    def killed(*arguments, **more):
        calls.append(arguments)
        if len(calls) == call:
            raise Killed
        return original(*arguments, **more)

    monkeypatch.setattr(place, name, killed)


class Eye:
    """An extractor whose features are the mean colours of the image's quarters; counts what it has seen."""

    def __init__(self, classes: int | None = 3, sha256: str = "abc") -> None:
        self.seen = 0
        self.extractor = Extractor(self.run, "an eye", sha256, 12, classes)

    def run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        self.seen += len(images)
        quarters = images.reshape(len(images), 2, 16, 2, 16, 3).mean(axis=(2, 4)) / 255
        features = quarters.reshape(len(images), 12).astype(np.float32)
        return features, features[:, :3] * 10 if self.extractor.classes else None


def make_tar(path, files, mode="w:gz", extra=()):
    """`extra` are entries without content, and come first."""
    with tarfile.open(path, mode) as tar:
        for info in extra:
            tar.addfile(info)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@dataclasses.dataclass
class Page:
    """What a `server` gives at a path, and how badly.

    Attributes:
        content: All of it.
        status: Of a reply with the whole.
        claims: The Content-Length it tells with the whole; None tells none.
        etag: Told, and compared with If-Range.
        changed: The same for Last-Modified.
        ranges: Whether it knows Range; `blindly` even if If-Range names something else.
        content_range: Told instead of the right one.
        cuts: After how many bytes the connections end, one after the other; then they end no more.
        gate: Waits for it before the content.
        stalls_at: Sends no more than so many bytes, but does not hang up before the other side does.
    """

    content: bytes
    status: int = 200
    claims: int | None = -1
    etag: str | None = None
    changed: str | None = None
    ranges: bool = True
    blindly: bool = False
    content_range: str | None = None
    cuts: list[int] = dataclasses.field(default_factory=list)
    gate: threading.Event | None = None
    stalls_at: int | None = None

    def serve(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        wanted, condition = handler.headers.get("Range"), handler.headers.get("If-Range")
        same = self.blindly or condition in (None, self.etag or self.changed)
        first = int(wanted[len("bytes=") : -1]) if wanted and self.ranges and same else 0
        if first and first >= len(self.content):
            handler.send_error(416)
            return
        body, last = self.content[first:], len(self.content) - 1
        handler.send_response(206 if first else self.status)
        if first:
            handler.send_header("Content-Range", self.content_range or f"bytes {first}-{last}/{last + 1}")
        if first or self.claims is not None:
            handler.send_header("Content-Length", str(len(body) if first or self.claims == -1 else self.claims))
        for name, value in {"ETag": self.etag, "Last-Modified": self.changed}.items():
            if value:
                handler.send_header(name, value)
        handler.end_headers()
        if self.gate:
            self.gate.wait(DEADLINE_SECS)
        handler.wfile.write(body[: self.cuts.pop(0)] if self.cuts else body[: self.stalls_at])
        if self.stalls_at:
            handler.connection.recv(1)


class Redirect:
    """What a `server` gives at a path that has moved."""

    def __init__(self, url: str) -> None:
        self.url = url

    def serve(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", self.url)
        handler.send_header("Content-Length", "0")
        handler.end_headers()


@pytest.fixture
def server(monkeypatch):
    """Serves its `pages`: path -> `Page`. Notes what it was `asked`: paths, and Range with If-Range in `ranges`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            server.asked.append(self.path)
            server.ranges.append((self.headers.get("Range"), self.headers.get("If-Range")))
            page = server.pages.get(self.path.partition("?")[0])
            if page is None:
                self.send_error(404)
            else:
                page.serve(self)

        def log_message(self, *args):
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.pages, server.asked, server.ranges = {}, [], []
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture
def shared_data() -> Path:
    """Real images that lie beside this checkout on some machines; they may not be part of it."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real images are not beside this checkout (shared/data)")
    return SHARED_DATA
