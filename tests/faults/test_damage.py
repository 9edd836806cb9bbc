"""Files that a disk, a copy or a person has damaged: found, named in one line, and nothing silently wrong.

The default run tries places spread over each file, its beginning and its end closely; the slow one tries every place.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import call_command, prepare_folders, quiet, small_config, tree, write_two_folders

from faults.fuzzing import or_refusal, value_or_refusal
from p2p_keras.cli import export as export_command
from p2p_keras.config import TrainConfig
from p2p_keras.data import check, manifest
from p2p_keras.data.pairs import Reading, find_pairs
from p2p_keras.data.pipeline import read_record
from p2p_keras.errors import UserError
from p2p_keras.evaluation.records import add_record, read_records
from p2p_keras.evaluation.run import evaluate, open_evaluation
from p2p_keras.export.open import check_files, find_export, open_model, read_metadata
from p2p_keras.training.run import train
from p2p_keras.workdir import checkpoints
from p2p_keras.workdir.folder import check_resume, read_config
from p2p_keras.workdir.history import HISTORY, append_history, keep_history, read_history
from p2p_keras.workdir.resume import newest_whole

everywhere = pytest.mark.parametrize("places", [40, pytest.param(None, marks=pytest.mark.slow)])


def damages(content: bytes, places: int | None) -> Iterator[tuple[str, bytes | None]]:
    """What may become of a file, each with what was done; None is a file that has gone.

    Args:
        content: As it was.
        places: About how many bytes are flipped, and at how many it is cut off; None is all of them.
    """
    last, few = len(content), (places or 0) // 4
    chosen = range(last)
    if places is not None and last > places:
        chosen = sorted({*range(few), *range(0, last, -(-last // (2 * few))), *range(last - few, last)})
    for place in chosen:
        for bit in (0, 6) if places is None else (place % 8,):
            yield f"bit {bit} of byte {place} flipped", _flipped(content, place, 1 << bit)
        yield f"cut to {place} bytes", content[:place]
    yield "gone", None


def _flipped(content: bytes, place: int, bits: int) -> bytes:
    return content[:place] + bytes([content[place] ^ bits]) + content[place + 1 :]


def put(path: Path, content: bytes | None) -> None:
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)


def _small_checkpoint(value: float) -> tf.train.Checkpoint:
    """Variables of several kinds, so that the files have a tensor, a scalar and the graph of objects in them."""
    return tf.train.Checkpoint(
        kernel=tf.Variable(np.random.default_rng(0).normal(value, 1, (4, 6)).astype(np.float32)),
        bias=tf.Variable(np.full(6, value, np.float32)),
        sums=tf.Variable(np.full(4, value, np.float64)),
        step=tf.Variable(3, dtype=tf.int64),
    )


@everywhere
@pytest.mark.parametrize("ending", ["index", "data-00000-of-00001"])
def test_a_damaged_checkpoint_is_found_whatever_byte_it_is(ending, places, tmp_path):
    """Or it is damaged where nothing is read, and gives back just what was saved."""
    for step in (1, 2):
        checkpoints.save(_small_checkpoint(float(step)), tmp_path, step, keep=0)
    newest = checkpoints.path_of(tmp_path, 2)
    path, whole, restored = newest / f"checkpoint.{ending}", _small_checkpoint(2.0), _small_checkpoint(0.0)
    content, found = path.read_bytes(), 0
    for what, damaged in damages(content, places):
        put(path, damaged)
        problem = checkpoints.find_problem(newest)
        found += problem is not None
        if problem is None:
            checkpoints.restore(restored, newest)
            for name in ("kernel", "bias", "sums", "step"):
                np.testing.assert_array_equal(getattr(restored, name), getattr(whole, name), err_msg=what)
        else:
            assert "\n" not in problem, what
    assert found > 0.9 * sum(1 for _ in damages(content, places))
    told = []
    assert newest_whole(tmp_path, told.append) == checkpoints.path_of(tmp_path, 1)
    assert [line.partition(": it is damaged (")[0] for line in told] == ["Skipped the checkpoint of step 2"]


@everywhere
def test_config_json(places, finished, tmp_path):
    """A digit that stays valid is found when the run goes on: it is not what was asked for, or it may change."""
    path, content = tmp_path / "config.json", (finished[0] / "config.json").read_bytes()
    path.write_bytes(content)
    config, record = read_config(path)
    (tmp_path / "checkpoints" / "step_00000006").mkdir(parents=True)
    for _, damaged in damages(content, places):
        if damaged is None:
            path.unlink()
            with pytest.raises(UserError, match=r"config\.json"):
                train(config, tmp_path, report=quiet)
            continue
        found = value_or_refusal(read_config, path, damaged)
        if found is None or found == (config, record):
            continue
        changed = {name for name in vars(config) if getattr(found[0], name) != getattr(config, name)}
        free = {name for name in changed if TrainConfig.__dataclass_fields__[name].metadata["free"]}
        if changed - free:
            with pytest.raises(UserError, match="A run continues only with the settings it began with"):
                check_resume(found[0], config, 6, 3)


@everywhere
def test_history_jsonl(places, tmp_path):
    losses = {"generator_loss": 50.125, "gan_loss": 0.75, "l1_loss": 0.5, "discriminator_loss": 0.625}
    for epoch in (1, 2, 3):
        evaluation = {"split": "val", "count": 3, "fingerprint": "0f", "extractor": None, "l1": 0.25 / epoch}
        append_history(tmp_path, {"step": 3 * epoch, "epoch": float(epoch), **losses, "evaluation": evaluation})
    path, whole = tmp_path / HISTORY, read_history(tmp_path)
    content = path.read_bytes()
    for what, damaged in damages(content, places):
        put(path, damaged)
        found, told = read_history(tmp_path), []
        for record in found:  # a name of the checksum that is another leaves the checksum under it
            assert any(record.items() >= one.items() for one in whole), what
        keep_history(tmp_path, 9, 3, told.append)
        assert len(told) == (len(found) < 3), what
        assert all(str(path) in line for line in told)


@everywhere
def test_metrics_json(places, tmp_path):
    for step in (3, 6):
        add_record(
            tmp_path,
            {
                "step": step,
                "epoch": step / 3,
                "weights": "ab",
                "count": 3,
                "metrics": {"l1": 0.5 / step, "fid": 12.5 * step},
                "extractor": {"name": "eye", "sha256": "abc"},
                "pictures": {"split": "val", "fingerprint": "0f"},
            },
        )
    path, whole = tmp_path / "metrics.json", read_records(tmp_path)
    for what, damaged in damages(path.read_bytes(), places):
        put(path, damaged)
        for record in read_records(tmp_path):
            assert any(record.items() >= one.items() for one in whole), what
        told = []
        add_record(tmp_path, {**whole[0], "step": 9}, report=told.append)
        assert len(told) == len(list(tmp_path.glob("*.damaged"))) <= 1, what
        for aside in tmp_path.glob("*.damaged"):
            assert aside.read_bytes() == damaged
            aside.unlink()


@pytest.fixture(scope="module", params=["loose", "in shards"])
def prepared(request, tmp_path_factory) -> Path:
    """12 pairs by p2p-prepare."""
    root = tmp_path_factory.mktemp("prepared")
    write_two_folders(root / "raw")
    prepare_folders(root / "raw", root / "data", shards=2 if request.param == "in shards" else 0)
    return root / "data"


in_shards = pytest.mark.parametrize("prepared", ["in shards"], indirect=True)


@everywhere
@pytest.mark.parametrize("name", ["manifest.csv", "dataset.json"])
def test_a_prepared_data_set(name, places, prepared, tmp_path):
    """Of a manifest's names, hashes and sizes of sources nothing is computed; a name that is wrong is not there."""
    data = shutil.copytree(prepared, tmp_path / "data")
    path, whole = data / name, find_pairs(data)
    for what, damaged in damages((prepared / name).read_bytes(), places):
        put(path, damaged)
        (tmp_path / "memory").unlink(missing_ok=True)
        pairs = or_refusal(lambda: check.checked(find_pairs(data), Reading(), 0, tmp_path / "memory")[0], data)
        if pairs is None:
            continue
        if damaged is None and not whole.shards:
            continue  # then it is a folder of images like any other
        for split in whole.splits:
            assert sorted(pairs.files(split).paths) == sorted(whole.files(split).paths), what
            assert sorted(pairs.files(split).offsets or []) == sorted(whole.files(split).offsets or []), what
        assert (pairs.image_size, pairs.channels, pairs.bits) == (whole.image_size, whole.channels, whole.bits), what
        assert len(pairs.panels) == len(whole.panels), what  # a name of one may be misspelt; nobody finds it then


def test_a_manifest_that_has_lost_a_line_or_a_split_costs_no_pairs_silently(prepared, tmp_path):
    data = shutil.copytree(prepared, tmp_path / "data")
    content = (data / "manifest.csv").read_text()
    lines = content.splitlines(keepends=True)
    for damaged in ("".join(lines[:-1]), "".join([*lines[:2], *lines[3:]]), content.replace(",train,", ",tra1n,", 1)):
        (data / "manifest.csv").write_text(damaged)
        with pytest.raises(UserError, match=r"manifest\.csv .*(lists \d+ pairs of|split is tra1n)"):
            find_pairs(data)


@everywhere
@in_shards
def test_a_shard(places, prepared, tmp_path):
    data = shutil.copytree(prepared, tmp_path / "data")
    files = find_pairs(data).files("train")
    path, offset, size = Path(files.paths[0][0]), files.offsets[0], files.sizes[0]
    content = path.read_bytes()
    record = content[offset : offset + size + manifest.FRAME]
    for _, damaged in damages(record, places and places // 2):
        if damaged is None or len(damaged) < len(record):  # found at the start, by its size
            put(path, damaged and damaged + content[offset + len(record) :])
            with pytest.raises(UserError, match="A shard must be as p2p-prepare wrote it"):
                check.checked(find_pairs(data), Reading(), 0, tmp_path / "memory")
            continue
        path.write_bytes(content[:offset] + damaged + content[offset + len(record) :])
        with pytest.raises(tf.errors.OpError):  # when it is read, by its checksums
            read_record(tf.constant(str(path)), tf.constant(offset, tf.int64), tf.constant(size, tf.int64))


@pytest.mark.slow
@in_shards
def test_a_damaged_shard_is_named_by_p2p_train_and_p2p_eval(prepared, one_device, tmp_path):
    data, workdir = shutil.copytree(prepared, tmp_path / "data"), tmp_path / "run"
    files = find_pairs(data).files("train")
    path = Path(files.paths[-1][0])
    path.write_bytes(_flipped(path.read_bytes(), files.offsets[-1] + 20, 1))
    config = small_config(data, batch_size=1, epochs=None, steps=60, checkpoint_every_steps=1)
    with pytest.raises(UserError, match=rf"A record of {path} is damaged"):
        train(config, workdir, one_device, quiet)
    saved = checkpoints.list_steps(workdir / "checkpoints")
    assert 0 < saved[-1] < len(files)
    with pytest.raises(UserError, match=rf"A record of {path} is damaged"):
        evaluate(open_evaluation(workdir, split="train", report=quiet), None, report=quiet)
    assert checkpoints.list_steps(workdir / "checkpoints") == saved


@pytest.fixture(scope="module", params=["keras", pytest.param("savedmodel", marks=pytest.mark.slow)])
def exported(request, finished, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("export")
    flags = [f"--workdir={finished[0]}", f"--output={output}", f"--format={request.param}", "--checkpoint=latest"]
    assert call_command(export_command, *flags) in (0, None)
    return output


@everywhere
def test_an_export(places, exported, tmp_path):
    """Every file of it, metadata.json too; assets.extra/ is for servers."""
    copy = shutil.copytree(exported, tmp_path / "export")
    file = find_export(copy) or find_export(copy / "keras")
    folder = file if file.is_dir() else file.parent
    kept = {name: content for name, content in tree(folder).items() if not name.startswith("assets.extra/")}
    assert len(kept) >= 2
    config = read_metadata(folder / "metadata.json")
    for name, content in kept.items():
        few = 8 if places else 400  # of files of a hundred thousand bytes, each of which is one sha256
        for what, damaged in damages(content, few if name != "metadata.json" else places):
            put(folder / name, damaged)
            if name == "metadata.json":
                found = or_refusal(lambda: read_metadata(folder / "metadata.json"), folder / name)
                assert found in (None, config), what
            else:
                with pytest.raises(UserError, match=re.escape(f"{folder / name} ")):
                    check_files(file)
        put(folder / name, content)
    put(folder / name, content[:-1])
    with pytest.raises(UserError):
        open_model(copy if file.is_dir() else file)
