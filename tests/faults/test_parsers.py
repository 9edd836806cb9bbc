"""Whatever stands in a file of ours: a value, or one line that names the file; and what is written comes back."""

import contextlib
import dataclasses
import io
import json
import shutil
import urllib.parse
import zipfile

import pytest
from conftest import make_tar, quiet
from hypothesis import strategies as st

from faults.fuzzing import changed_json, damaged, garbage, json_values, many, run_examples, scalars, value_or_refusal
from p2p_keras.config import TrainConfig
from p2p_keras.data import manifest
from p2p_keras.data.pairs import find_pairs
from p2p_keras.data.prepare import earlier, lists, pairing, splits
from p2p_keras.data.prepare.sources import Found
from p2p_keras.data.prepare.stack import Form
from p2p_keras.errors import UserError
from p2p_keras.evaluation import records
from p2p_keras.export.open import read_metadata
from p2p_keras.presets import make_config
from p2p_keras.pytorch.read import Network, read_network
from p2p_keras.sizes import Size, to_size
from p2p_keras.system import hosts
from p2p_keras.system.files import leads_out
from p2p_keras.system.https import is_safe
from p2p_keras.system.unpack import unpack
from p2p_keras.training.validation import find_evaluation
from p2p_keras.workdir.folder import read_config, settings_of, steps_per_epoch, to_json
from p2p_keras.workdir.history import HISTORY, keep_history, read_history

CONFIG = TrainConfig(data_dir="data", image_size=32, panels=("street", "aerial"), eval_every_epochs=1)
RUN = json.loads(to_json(CONFIG, data={"fingerprint": "0f", "counts": {"train": 12, "val": 3, "test": 0}}))
DESCRIBED = {
    "format": 1,
    "panels": ["street", "aerial"],
    "image_size": [32, 64],
    "channels": 3,
    "bits": 8,
    "splits": {"train": 2, "val": 1, "test": 0},
    "rejected": 0,
    "left_out": 0,
    "resizing": "box",
    "source": {"kind": "a folder for each panel", "folders": "a, b"},
    "settings": {"made_from": "a and b", "panels": ["street", "aerial"], "shards": 0},
    "shards": {},
}
ENTRIES = [
    manifest.Entry(f"{name}.png", split, 128, 32, 1000 + i, f"{i:064x}", f"{i:032x}", "12+34")
    for i, (split, name) in enumerate([("train", "a"), ("train", 'b,"c'), ("val", "deep/d")])
]
MANIFEST = (manifest.HEAD + manifest.format_lines(ENTRIES)).encode()


def pretty(value) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def anything(value) -> st.SearchStrategy[bytes]:
    return st.one_of(garbage, damaged(pretty(value)), changed_json(value), changed_json(value))


def reading(read, path, kind):
    """A check that a reader gives a value of a kind, or refuses a file as it must."""

    def check(content):
        found = value_or_refusal(read, path, content)
        assert found is None or type(found) is kind

    return check


@many
def test_config_json(examples, tmp_path):
    path = tmp_path / "config.json"

    def check(content):
        found = value_or_refusal(read_config, path, content)
        if found is not None:
            config, record = found
            again = json.loads(to_json(config, **{name: value for name, value in record.items() if name != "format"}))
            assert TrainConfig(**again["config"]) == config
            assert all(
                type(value) in (bool, int, float, str, tuple, Size, type(None)) for value in vars(config).values()
            )
            if value_or_refusal(lambda path: steps_per_epoch(config, record, path), path, content) is not None:
                assert steps_per_epoch(config, record, path) > 0

    run_examples(examples, check, anything(RUN))


@many
def test_metadata_json_of_an_export(examples, tmp_path):
    value = {"config": settings_of(CONFIG), "step": 3, "inference": {"noise": False}}
    path = tmp_path / "metadata.json"
    assert value_or_refusal(read_metadata, path, pretty(value)) == CONFIG
    run_examples(examples, reading(read_metadata, path, TrainConfig), anything(value))


@many
def test_dataset_json(examples, tmp_path):
    def check(content):
        described = value_or_refusal(manifest.read_description, tmp_path / "dataset.json", content)
        assert described is None or type(described) is dict
        pairs = value_or_refusal(lambda path: find_pairs(tmp_path), tmp_path / "dataset.json", content)
        assert pairs is None or pairs.splits["train"] == ("train/a.png",)

    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "a.png").touch()
    run_examples(examples, check, anything(DESCRIBED))


@many
def test_dataset_json_of_an_earlier_prepare(examples, tmp_path):
    def check(content):
        (tmp_path / "dataset.json").write_bytes(content)
        with contextlib.suppress(UserError):
            found = earlier.look_into(tmp_path, DESCRIBED["settings"])
            earlier.is_finished(tmp_path, found, [], Form())
        assert isinstance(earlier.begun_with(tmp_path), dict)

    (tmp_path / "manifest.csv").write_bytes(MANIFEST)
    run_examples(examples, check, anything(DESCRIBED))


@many
def test_manifest_csv(examples, tmp_path):
    def check(content):
        found = value_or_refusal(manifest.read, tmp_path / "manifest.csv", content)
        if found is not None:
            assert all(name == entry.name for name, entry in found.items())
        manifest.read_journal(tmp_path / "manifest.csv")

    run_examples(examples, check, st.one_of(garbage, damaged(MANIFEST), damaged(MANIFEST)))


@many
def test_a_manifest_comes_back(examples, tmp_path):
    names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=30)
    names = names.filter(lambda name: not leads_out(name))
    entry = st.builds(
        manifest.Entry,
        names,
        st.sampled_from(["train", "val", "test"]),
        st.integers(1, 10**5),
        st.integers(1, 10**5),
        st.integers(0, 10**12),
        st.binary(min_size=32, max_size=32).map(bytes.hex),
        st.binary(min_size=8, max_size=8).map(lambda panel: panel.hex() * 2),
        st.integers(0, 10**9).map(str),
        names,
        st.integers(0, 10**12),
    )

    def check(entries):
        path = tmp_path / "manifest.csv"
        path.write_bytes((manifest.HEAD + manifest.format_lines(entries)).encode())
        expected = {entry.name: entry for entry in entries}
        assert manifest.read(path) == expected

    run_examples(examples, check, st.lists(entry, max_size=5))


LOSSES = {"generator_loss": 50.0, "gan_loss": 0.7, "l1_loss": 0.5, "discriminator_loss": 0.7}
EVALUATION = {"split": "val", "count": 3, "fingerprint": "0f", "extractor": None, "l1": 0.25, "psnr": 12.0}
EPOCH = {"step": 3, "epoch": 1.0, **LOSSES, "images_per_sec": None, "secs": 1.5, "evaluation": EVALUATION}


@many
def test_history(examples, tmp_path):
    lines = b"".join(json.dumps({**EPOCH, "step": 3 * i, "epoch": float(i)}).encode() + b"\n" for i in (1, 2, 3))

    def check(content):
        (tmp_path / HISTORY).write_bytes(content)
        found = read_history(tmp_path)
        keep_history(tmp_path, 6, 2, quiet)
        assert read_history(tmp_path) == [r for r in found if r["step"] <= 6 and r["epoch"] % 1 == 0]

    run_examples(examples, check, st.one_of(garbage, damaged(lines), changed_json(EPOCH)))


RECORD = {
    "step": 3,
    "epoch": 1.0,
    "weights": "00",
    "count": 3,
    "metrics": {"l1": 0.5, "kid@192": 0.01, "kid_std@192": 0.001},
    "absent": {"fid": "few"},
    "cautions": ["few"],
    "extractor": {"name": "eye", "sha256": "abc"},
    "pictures": {"split": "val", "direction": "a2s", "image_size": 32, "fingerprint": "0f"},
    "inference": {"statistics": "moving", "noise": False, "precision": "float32"},
    "versions": {},
}


@many
def test_metrics_json(examples, tmp_path):
    tmp_path = tmp_path / "eval" / "val"
    tmp_path.mkdir(parents=True)

    def check(content):
        path = tmp_path / "metrics.json"
        path.write_bytes(content)
        found = records.read_records(tmp_path)
        for record in found:
            records.comparable(found, record)
            [record[name] for name in ("count", "metrics", "extractor", "pictures")]  # as an export does
        find_evaluation(tmp_path.parents[1], 3)
        records.add_record(tmp_path, RECORD)
        again = records.read_records(tmp_path)
        assert any(record["step"] == RECORD["step"] for record in again)
        for aside in tmp_path.glob("*.damaged*"):
            aside.unlink()

    run_examples(examples, check, anything({"format": 1, "records": [RECORD, {**RECORD, "step": 6, "epoch": 2.0}]}))


@many
def test_per_image_csv(examples, tmp_path):
    valid = b'step,name,l1\n3,a.png,0.5\n3,"b,c.png",0.25\n'

    def check(content):
        (tmp_path / "metrics.json").unlink(missing_ok=True)
        (tmp_path / "per_image.csv").write_bytes(content)
        records.add_record(tmp_path, RECORD, ["x.png"], {"l1": [0.125]})
        assert b"3,x.png,0.125" in (tmp_path / "per_image.csv").read_bytes()
        for aside in tmp_path.glob("*.damaged*"):
            aside.unlink()

    run_examples(examples, check, st.one_of(garbage, damaged(valid), damaged(valid)))


@many
def test_pairs_csv(examples, tmp_path):
    for folder in ("street", "aerial"):
        (tmp_path / folder).mkdir()
        for name in ("a.png", "b.png"):
            (tmp_path / folder / name).touch()
    folders = [tmp_path / "street", tmp_path / "aerial"]
    valid = b"left,right\na.png,b.png\nb,a\n"
    path = tmp_path / "pairs.csv"

    def read(path):
        return pairing.listed_pairs(path, folders)

    assert len(value_or_refusal(read, path, valid).sources) == 2
    run_examples(examples, reading(read, path, Found), st.one_of(garbage, damaged(valid), damaged(valid)))


@many
def test_lists_of_names(examples, tmp_path):
    path, valid = tmp_path / "train.txt", b"a\nb.png\ndeep/c\n"

    def read(path):
        return splits.by_lists([], {"train": path})

    assert set(value_or_refusal(read, path, valid).left_out) == {"a", "b", "deep/c"}  # no pair is there to have them
    run_examples(examples, reading(read, path, splits.Splits), st.one_of(garbage, damaged(valid)))


@many
def test_rejected_csv(examples, tmp_path):
    valid = b"pair,split,problem,source_bytes\na,train,it is empty,0+1\n"

    def check(content):
        (tmp_path / lists.REJECTED).write_bytes(content)
        assert {len(one) for one in lists.read_rejected(tmp_path)} <= {4}

    run_examples(examples, check, st.one_of(garbage, damaged(valid)))


@many
def test_sizes_and_shares(examples):
    texts = st.one_of(st.text(max_size=12), st.from_regex(r"[0-9]{1,6}x?[0-9]{0,6}", fullmatch=True), json_values)

    def check(value):
        with contextlib.suppress(ValueError):
            size = to_size(value)
            assert to_size(str(size)) == size == to_size(size.plain)
        with contextlib.suppress(UserError):
            shares = splits.parse_shares(str(value))
            assert min(shares) >= 0
            assert abs(sum(shares) - 100) < 1e-6

    run_examples(examples, check, texts)
    assert to_size("256x512") == Size(256, 512)


@many
def test_tf_config(examples):
    valid = {"cluster": {"chief": ["a:1"], "worker": ["b:2"]}, "task": {"type": "worker", "index": 0}}

    def check(content):
        with contextlib.suppress(UserError):
            found = hosts.cluster_resolver({"TF_CONFIG": content.decode(errors="replace")})
            assert found is None or sum(map(len, found.cluster_spec().as_dict().values())) > 1

    run_examples(examples, check, anything(valid))


@many
def test_archives(examples, tmp_path):
    """Whatever is in one: unpacked, or what is wrong in a few words; and nothing beside the folder."""
    files = {"a/b.txt": b"some text " * 20, "c.txt": b""}
    tars = {mode: make_tar(tmp_path / "made", files, f"w:{mode}").read_bytes() for mode in ("", "gz", "bz2", "xz")}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
    archive, folder = tmp_path / "in" / "archive", tmp_path / "in" / "folder"
    archive.parent.mkdir()

    def check(content):
        shutil.rmtree(folder, ignore_errors=True)
        archive.write_bytes(content)
        problem = unpack(archive, folder)
        assert problem is None or (problem and len(problem) < 1000)
        assert {path.name for path in archive.parent.iterdir()} <= {"archive", "folder"}
        if problem is None:
            assert any(path.is_file() for path in folder.rglob("*"))

    valid = st.sampled_from([*tars.values(), buffer.getvalue()])
    run_examples(examples, check, st.one_of(garbage, valid.flatmap(damaged)))


@many
def test_urls(examples):
    pieces = st.sampled_from(
        ["http", "https", "file", "://", "[::1]", "127.0.0.1", "localhost", "a.org", "@", ":", "/"]
    )
    urls = st.text(max_size=30) | st.lists(pieces | st.text(max_size=3), max_size=6).map("".join)

    def check(url):
        if is_safe(url):
            parts = urllib.parse.urlsplit(url)
            assert (
                parts.scheme == "https" or parts.hostname in ("localhost", "::1") or parts.hostname.startswith("127.")
            )

    run_examples(examples, check, urls)


@many
def test_pth_files(examples, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch reads such files, and is not installed")
    buffer = io.BytesIO()
    torch.save({"model.model.0.weight": torch.zeros(2, 3, 4, 4), "model.model.3.bias": torch.zeros(3)}, buffer)
    path = tmp_path / "net_G.pth"
    assert value_or_refusal(read_network, path, buffer.getvalue()) is None  # two layers are no U-Net
    run_examples(examples, reading(read_network, path, Network), st.one_of(garbage, damaged(buffer.getvalue())))


@many
def test_flags_of_p2p_train(examples):
    """What a person may type for any setting: a config, or one line that names the flag."""
    names = [field.name for field in dataclasses.fields(TrainConfig)]
    values = (
        st.text(max_size=8) | st.from_regex(r"-?[0-9]{1,20}(\.[0-9]+)?(,[0-9]{1,3}){0,2}", fullmatch=True) | scalars
    )

    def check(name, value):
        with contextlib.suppress(UserError):
            config = make_config(None, None, 1, data_dir="data", **{"direction": "AtoB", name: value})
            assert TrainConfig(**json.loads(to_json(config))["config"]) == config

    run_examples(examples, check, st.sampled_from([name for name in names if name != "data_dir"]), values)
