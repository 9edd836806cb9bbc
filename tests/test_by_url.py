"""Data sets by URL, from p2p-prepare to p2p-eval: in TensorFlow's memory, and through its client of gs://."""

import http.server
import json
import os
import secrets
import shutil
import ssl
import subprocess
import sys
import threading
import urllib.parse
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import (
    READING,
    SMALL_FORM,
    assert_refused,
    assert_same_end,
    call_command,
    prepare_folders,
    quiet,
    run_command,
    small_config,
    write_two_folders,
)

import p2p_keras
from p2p_keras.cli import eval as eval_command
from p2p_keras.data import pipeline
from p2p_keras.data.pairs import find_pairs
from p2p_keras.data.prepare import sources, splits
from p2p_keras.data.prepare.run import prepare
from p2p_keras.errors import UserError
from p2p_keras.metrics import inception
from p2p_keras.training import run as training
from p2p_keras.training.run import train
from p2p_keras.workdir.folder import read_config


@pytest.fixture(scope="module")
def on_disk(finished, tmp_path_factory) -> Path:
    """The pairs of the finished run, in shards."""
    folder = tmp_path_factory.mktemp("prepared")
    found = sources.composites(finished[1], (), ("A", "B"))
    form = SMALL_FORM._replace(image_size=None)
    prepare(found, splits.by_folders(found.sources), folder / "data", form, {"folders": True}, shards=4)
    return folder / "data"


def upload(folder: Path) -> str:
    """Copies a folder into TensorFlow's memory; its URL."""
    root = f"ram://{secrets.token_hex(8)}/data"
    for path in folder.rglob("*"):
        if path.is_file():
            url = f"{root}/{path.relative_to(folder).as_posix()}"
            tf.io.gfile.makedirs(url.rpartition("/")[0])
            with tf.io.gfile.GFile(url, "wb") as file:
                file.write(path.read_bytes())
    return root


@pytest.mark.slow
def test_a_run_by_url_ends_as_one_on_loose_files(finished, on_disk, tmp_path, one_device):
    data, run = upload(on_disk), tmp_path / "run"
    assert train(small_config(data), run, one_device, quiet) is None
    assert_same_end(finished[0], run, 6)
    config, record = read_config(run / "config.json")
    assert config.data_dir == data  # as it was given, not below the folder where it was started
    assert record["data"] == read_config(finished[0] / "config.json")[1]["data"]


def test_an_evaluation_by_url_gives_the_numbers_of_one_on_loose_files(finished_copy, on_disk, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(inception, "KNOWN_PLACES", ("http://127.0.0.1:1/inception.tgz",))
    numbers = set()
    for flags in ([], [f"--data_dir={upload(on_disk)}"], [f"--data_dir=file://{on_disk}"]):
        assert call_command(eval_command, f"--workdir={finished_copy}", "--split=val", *flags) == 0
        written = finished_copy / "eval" / "val" / "metrics.json"
        numbers.add(json.dumps(json.loads(written.read_text())["records"][-1]["metrics"]))
        written.unlink()
    assert len(numbers) == 1


def test_loose_unfinished_and_damaged_sets_are_refused(on_disk, tmp_path, one_device):
    def refused(data: str, rule: str) -> None:
        with pytest.raises(UserError, match=rule):
            train(small_config(data), tmp_path / "run", one_device, quiet)

    refused("ram://nowhere/data", "There is no folder ram://nowhere/data")
    write_two_folders(tmp_path / "raw")
    prepare_folders(tmp_path / "raw", tmp_path / "loose")
    for folder in (tmp_path / "loose", tmp_path / "raw"):
        refused(upload(folder), r"By URL a data set is read that p2p-prepare made in shards\. ram.* holds none")
    without = upload(on_disk)
    tf.io.gfile.remove(f"{without}/manifest.csv")
    refused(without, "made in shards.*holds none")
    unfinished = upload(on_disk)
    tf.io.gfile.makedirs(f"{unfinished}/.prepare")
    refused(unfinished, f"p2p-prepare has not finished {unfinished}")
    short = upload(on_disk)
    shard = f"{short}/shards/{tf.io.gfile.listdir(f'{short}/shards')[0]}"
    tf.io.gfile.remove(shard)
    with tf.io.gfile.GFile(shard, "wb") as file:
        file.write(b"short")
    refused(short, f"A shard must be as p2p-prepare wrote it. {shard} has 5 bytes")
    tf.io.gfile.remove(shard)
    refused(short, f"{shard} has 0 bytes")
    spoilt = upload(on_disk)
    with tf.io.gfile.GFile(f"{spoilt}/dataset.json", "wb") as file:
        file.write(b"{")  # in memory it is added
    refused(spoilt, f"dataset.json must be a JSON object .*{spoilt}/dataset.json cannot be read")


def test_a_store_that_goes_away_in_the_middle_is_one_line(on_disk, tmp_path, one_device, monkeypatch):
    data = upload(on_disk)

    def gone(*arguments):
        raise tf.errors.UnavailableError(None, None, f"At:\n<>\nHTTP 503\n\t when reading {data}/x\n\t [[A]]")

    monkeypatch.setattr(training, "make_train_steps", lambda *arguments: gone)
    with pytest.raises(UserError, match=f"HTTP 503 when reading {data}/x. Look at .*; the same command"):
        train(small_config(data), tmp_path / "run", one_device, quiet)


def test_another_host_that_goes_away_is_not_taken_for_the_data(on_disk, tmp_path, one_device, monkeypatch):
    def gone(*arguments):
        raise tf.errors.UnavailableError(None, None, "Collective ops is aborted by: connection reset")

    monkeypatch.setattr(training, "make_train_steps", lambda *arguments: gone)
    with pytest.raises(tf.errors.UnavailableError):
        train(small_config(upload(on_disk)), tmp_path / "run", one_device, quiet)


def test_a_shard_that_is_gone_in_the_middle_is_one_line(on_disk, tmp_path, one_device, monkeypatch):
    data, make_train_steps = upload(on_disk), training.make_train_steps

    def without(*arguments):
        tf.io.gfile.rmtree(f"{data}/shards")
        return make_train_steps(*arguments)

    monkeypatch.setattr(training, "make_train_steps", without)
    with pytest.raises(UserError, match=f"A record of {data}/shards/.* is damaged or has gone. Copy the shard again"):
        train(small_config(data), tmp_path / "run", one_device, quiet)


@pytest.mark.parametrize("argument", ["workdir", "model"])
def test_from_python_only_the_data_may_be_a_url(argument, tmp_path):
    with pytest.raises(UserError, match=f"{argument} is a path on a disk.* Received: gs://bucket/x"):
        p2p_keras.load("gs://bucket/x") if argument == "model" else p2p_keras.train(tmp_path, "gs://bucket/x")


def test_a_command_says_so_in_one_line_and_makes_no_folder_of_that_name(tmp_path):
    done = run_command("train", "--workdir=gs://bucket/run", cwd=tmp_path, env={**os.environ, "PYTHONPATH": _ROOT})
    assert (done.returncode, done.stdout, list(tmp_path.iterdir())) == (2, "", [])
    assert done.stderr.count("\n") == 1
    assert "--workdir is a path on a disk; by URL only a data set is read" in done.stderr


_ROOT = str(Path(p2p_keras.__file__).parents[1])


class Storage(http.server.BaseHTTPRequestHandler):
    """Answers for the hosts of Google Cloud Storage, as a proxy to which both are the same: buckets are folders."""

    protocol_version = "HTTP/1.1"

    def do_CONNECT(self):
        self.send_response(200)
        self.end_headers()
        self.connection = self.server.tls.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
        self.close_connection = False
        while not self.close_connection:
            self.handle_one_request()

    def finish(self):
        super().finish()
        self.connection.close()

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        names = [urllib.parse.unquote(name) for name in url.path.split("/")]
        if self.headers["Host"].startswith("storage."):  # /BUCKET/OBJECT
            self._send(self.server.root / "/".join(names[1:]))
            return
        bucket, name = self.server.root / names[4], "/".join(names[6:])  # /storage/v1/b/BUCKET/o/OBJECT
        if name:
            there = (bucket / name).is_file()
            size = (bucket / name).stat().st_size if there else 0
            about = {"size": str(size), "generation": "1", "updated": "2026-01-01T00:00:00.000Z"}
            self._reply(200 if there else 404, json.dumps(about).encode())
            return
        prefix = dict(urllib.parse.parse_qsl(url.query)).get("prefix", "")
        objects = [path.relative_to(bucket).as_posix() for path in bucket.rglob("*") if path.is_file()]
        items = [{"name": each} for each in objects if each.startswith(prefix)]
        self._reply(200, json.dumps({"items": items}).encode())

    def _send(self, path: Path) -> None:
        if path.suffix == ".tfrecord" and len(self.server.ranges) > self.server.most:
            self._reply(403, b"")
            return
        first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        self.server.ranges.append((path.name, last - first + 1))
        self._reply(206, path.read_bytes()[first : last + 1])

    def _reply(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def storage(tmp_path):
    """Serves `tmp_path/buckets` as gs://, to processes with its `environment`; notes what was read in `ranges`."""
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl, which makes the certificate")
    hosts = "subjectAltName=DNS:www.googleapis.com,DNS:storage.googleapis.com"
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    made += ["-days", "2", "-keyout", key, "-out", certificate, "-subj", "/CN=www.googleapis.com", "-addext", hosts]
    subprocess.run(made, check=True, capture_output=True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Storage)
    server.root, server.ranges, server.tls = tmp_path / "buckets", [], ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.most = 10**9  # records are then refused
    server.tls.load_cert_chain(certificate, key)
    server.environment = {name: value for name, value in os.environ.items() if "google" not in name.lower()}
    server.environment |= {
        "https_proxy": f"http://127.0.0.1:{server.server_port}",
        "no_proxy": "",
        "CURL_CA_BUNDLE": str(certificate),
        "NO_GCE_CHECK": "true",
        "CLOUDSDK_CONFIG": str(tmp_path / "none"),
    }
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


READ_ALL = """
import sys
import numpy as np
from p2p_keras.data import check, pipeline
from p2p_keras.data.pairs import find_pairs, Reading
from p2p_keras.sizes import Size
from p2p_keras.system.urls import Url
pairs = find_pairs(Url(sys.argv[1]))
reading = Reading(image_size=Size(32, 32))
assert check.checked(pairs, reading, 0, None)[1] == {}
images = next(iter(pipeline.inference_dataset(pairs.files("train"), reading, 99)))
np.savez(sys.argv[2], *images)
"""


def test_tensorflows_client_of_gs_reads_what_is_on_the_disk(on_disk, storage, tmp_path):
    """And no more than that of each record, with what the commands set before TensorFlow is loaded."""
    shutil.copytree(on_disk, storage.root / "bucket" / "data")
    environment = {**storage.environment, "GCS_READ_CACHE_BLOCK_SIZE_MB": "0"}
    command = [sys.executable, "-c", READ_ALL, "gs://bucket/data", str(tmp_path / "read.npz")]
    done = subprocess.run(command, env=environment, cwd=_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    files = find_pairs(on_disk).files("train")
    with np.load(tmp_path / "read.npz") as read:
        for image, expected in zip(
            read.values(), next(iter(pipeline.inference_dataset(files, READING, 99))), strict=True
        ):
            np.testing.assert_array_equal(image, expected)
    bytes_read = sum(size for name, size in storage.ranges if name.endswith(".tfrecord"))
    assert sum(files.sizes) < bytes_read <= sum(size + 16 + 1 for size in files.sizes)  # it looks before a record


@pytest.mark.slow
def test_p2p_train_and_p2p_eval_by_gs(on_disk, storage, tmp_path):
    shutil.copytree(on_disk, storage.root / "bucket" / "data")
    small = ["--direction=AtoB", "--batch_size=4", "--base_filters=4", "--precision=float32", "--steps=4"]
    for data, run in (("gs://bucket/data", "url"), (str(on_disk), "disk")):
        done = run_command(
            "train", f"--data_dir={data}", f"--workdir={tmp_path / run}", *small, env=storage.environment
        )
        assert (done.returncode, done.stderr) == (0, "")
    assert_same_end(tmp_path / "disk", tmp_path / "url", 4)
    assert max(size for name, size in storage.ranges if name.endswith(".tfrecord")) <= 512 << 10  # of Python's
    no_network = {**storage.environment, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = run_command("eval", f"--workdir={tmp_path / 'url'}", "--split=val", env=no_network)
    assert (done.returncode, done.stderr) == (0, "")
    storage.most = len(storage.ranges) + 30
    more = [f"--workdir={tmp_path / 'url'}", "--steps=400"]
    assert_refused(run_command("train", *more, env=storage.environment), "HTTP response code 403", "gs://bucket/data")
    storage.most = 10**9
    assert run_command("train", *more, "--steps=6", env=storage.environment).returncode == 0
    storage.most = len(storage.ranges)
    done = run_command("eval", f"--workdir={tmp_path / 'url'}", "--split=val", env=no_network)
    assert_refused(done, "HTTP response code 403", "gs://bucket/data")
