"""Whole runs are examined; each illness that the run itself can have is given to it."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from conftest import assert_refused, call_command, quiet, raise_, run_command, small_config, write_pairs
from PIL import Image, ImageDraw

from p2p_keras.cli import doctor as doctor_command
from p2p_keras.data.pairs import Reading, find_pairs
from p2p_keras.doctor import pictures, speed
from p2p_keras.doctor import run as doctor
from p2p_keras.doctor.outcomes import CHECKS, Finding, Skipped
from p2p_keras.doctor.run import check_pictures, examine
from p2p_keras.evaluation.records import add_record, make_record
from p2p_keras.evaluation.scoring import Summary
from p2p_keras.evaluation.split import batches, take_split
from p2p_keras.metrics.inception import Extractor
from p2p_keras.training.run import train
from p2p_keras.workdir.generator import build_generator, restore_each
from p2p_keras.workdir.history import append_history, read_history
from p2p_keras.workdir.resolve import Data, resolve


@pytest.fixture
def quiet_machine(monkeypatch):
    """Whatever else the machine does meanwhile, the pipeline is fast."""
    monkeypatch.setattr(speed, "measure_pipeline", lambda *_: 1e6)


def _reasons(diagnosis) -> dict[str, str]:
    return {skipped.name: skipped.reason for skipped in diagnosis.skipped}


def test_a_young_run_is_told_to_be_young(quiet_machine, finished_copy, capsys):
    assert call_command(doctor_command, f"--workdir={finished_copy}") == 0
    written = json.loads((finished_copy / "doctor.json").read_text())
    assert (written["step"], written["findings"]) == (6, [])
    reasons = {skipped["name"]: skipped["reason"] for skipped in written["skipped"]}
    young = {name for name, reason in reasons.items() if "too young" in reason}
    assert young == {*CHECKS[:4], *CHECKS[5:10]}  # all by losses or pictures
    out = capsys.readouterr().out
    assert f"{finished_copy}, step 6: nothing found: 2 checks (misaligned pairs, starved input)\n" in out
    assert out.count("Not looked for, ") == 10


def test_without_data_the_history_is_still_read(quiet_machine, finished_copy, finished, tmp_path):
    moved = shutil.copytree(finished[1], tmp_path / "moved")
    config = json.loads((finished_copy / "config.json").read_text())
    config["config"]["data_dir"] = str(tmp_path / "gone")
    (finished_copy / "config.json").write_text(json.dumps(config))
    reasons = _reasons(examine(finished_copy, report=quiet))
    assert "gone, which is not there. Say where: --data_dir=DATA" in reasons["misaligned pairs"]
    assert "misaligned pairs" not in _reasons(examine(finished_copy, moved, quiet))
    write_pairs(moved / "train", 1, first_index=50)  # one that was another one
    assert "are other ones than the run's" in _reasons(examine(finished_copy, moved, quiet))["starved input"]


def test_data_that_may_not_be_read_are_no_reason_to_say_nothing_of_the_history(finished_copy, monkeypatch):
    monkeypatch.setattr(doctor, "find_data", lambda *_: raise_(PermissionError(13, "Permission denied", "pairs/train")))
    reasons = _reasons(examine(finished_copy, report=quiet))
    assert reasons["misaligned pairs"] == "[Errno 13] Permission denied: 'pairs/train'"
    assert "too young" in reasons["discriminator won"]


def test_without_a_checkpoint_the_rest_is_looked_at(quiet_machine, finished_copy):
    shutil.rmtree(finished_copy / "checkpoints")
    (finished_copy / "checkpoints").mkdir()
    diagnosis = examine(finished_copy, report=quiet)
    assert "checkpoint" in _reasons(diagnosis)["outputs alike"]
    assert diagnosis.clear == ["misaligned pairs", "starved input"]


def test_mistakes_are_told_in_a_line(tmp_path):
    assert_refused(run_command("doctor"), "--workdir names the folder of a run")
    assert_refused(run_command("doctor", f"--workdir={tmp_path / 'none'}"), "There is none in")


@pytest.fixture
def pictures_of(tmp_path, finished):
    """A function of settings to the config, an untrained generator with weights of some size, and the splits."""
    data_dir = tmp_path / "pairs"
    write_pairs(data_dir / "train", 12)
    write_pairs(data_dir / "val", 8, first_index=100)

    def make(**settings):
        config, data = resolve(small_config(data_dir, **settings), None, tmp_path, quiet)
        generator = build_generator(config)
        next(iter(restore_each(generator, finished[0] / "checkpoints", "latest", quiet)))
        splits = [take_split(data.pairs, data.reading, split, 32) for split in ("train", "val", "test")]
        return config, generator, splits

    return make


def test_moving_averages_that_do_not_fit_the_batches_shift_pictures(pictures_of):
    """First they are what the batches have."""
    config, generator, splits = pictures_of(batch_size=12)
    ((_, images, _),) = batches(splits[0], range(12), 12)
    norms = [layer for layer in generator.layers if layer.name.endswith("_norm")]
    for layer in norms:
        layer.momentum = 0.0  # so that nothing is left of what was there before
    generator([images, None], training=True)
    assert check_pictures(config, generator, splits)[5] is None
    for layer in norms:
        layer.moving_mean.assign(layer.moving_mean - 3.0)  # not plus, or the ReLUs would cut it off
    found = check_pictures(config, generator, splits)[5]
    assert isinstance(found, Finding)


def test_a_generator_with_dead_weights_gives_outputs_alike(pictures_of):
    config, generator, splits = pictures_of()
    generator.get_layer("output").kernel.assign(0.0 * generator.get_layer("output").kernel)
    found = check_pictures(config, generator, splits)[1]
    assert isinstance(found, Finding)
    assert "deviate from their mean by 0.000" in found.evidence


def test_crops_are_looked_at_as_in_training_and_only_of_a_run_that_has_them(pictures_of, monkeypatch):
    seen = []
    monkeypatch.setattr(pictures, "check_crops", lambda whole, cropped: seen.append((whole, cropped)))
    config, generator, splits = pictures_of()
    check_pictures(config, generator, splits)
    ((whole, cropped),) = seen
    assert whole.shape == cropped.shape == (12,)
    assert abs(whole - cropped).min() > 0  # other pictures, of the same pairs
    assert cropped.mean() == pytest.approx(whole.mean(), rel=0.2)
    monkeypatch.setattr(pictures, "check_over_fitting", lambda *_: Finding("over-fitting", "", ""))
    assert isinstance(check_pictures(config, generator, splits)[3], Skipped)
    for settings, why in (({"jitter": False}, "crops nothing"), ({"crops": "native"}, "used in crops as well")):
        assert why in check_pictures(*pictures_of(**settings))[3].reason
    assert len(seen) == 1


def test_crops_are_not_looked_at_where_a_run_knows_or_may_know_its_pairs_by_heart(pictures_of, monkeypatch):
    monkeypatch.setattr(pictures, "check_crops", lambda *_: Finding("misleading crops", "", ""))
    config, generator, splits = pictures_of()
    assert isinstance(check_pictures(config, generator, splits)[3], Finding)
    found = check_pictures(config, generator, splits, Finding("over-fitting", "by its history", ""))
    assert found[0].evidence == "by its history"
    assert "is over-fitting" in found[3].reason
    alone = [splits[0], *(split._replace(files=split.files[:0]) for split in splits[1:])]
    assert "cannot be told" in check_pictures(config, generator, alone)[3].reason


def test_fewer_pictures_than_features(quiet_machine, finished_copy, finished):
    """By the newest record in eval/ that has an FID, of the pictures or the reference, whichever are fewer."""
    config, data = resolve(small_config(finished[1]), None, finished_copy, quiet)
    pairs = take_split(data.pairs, data.reading, "val")
    extractor = Extractor(lambda image: (image, None), "drawn", "00", 3, None)
    for step, width, reference, found in ((4, 3, None, False), (5, 4, None, True), (6, 3, 2, True)):
        name = f"fid@{width}"
        record = make_record(config, step, step / 3, "w", pairs, Summary({name: 1.0, "l1": 0.1}, {}, []), extractor)
        if reference:
            record["pictures"]["reference"] = {"split": "train", "count": reference, "fingerprint": "f"}
        add_record(finished_copy / "eval" / "val", record, report=quiet)
        findings = examine(finished_copy, report=quiet).findings
        assert [finding.name for finding in findings] == ["few pictures for FID"] * found
    assert "of 2 pictures and 3 features" in findings[0].evidence
    # As the remedy says: the same checkpoint, of all training pairs.
    more = take_split(data.pairs, data.reading, "train")
    record = make_record(config, 6, 2.0, "w", more, Summary({"fid@3": 1.0, "l1": 0.1}, {}, []), extractor)
    add_record(finished_copy / "eval" / "train", record, report=quiet)
    assert examine(finished_copy, report=quiet).findings == []


def _shapes(number: int, mirrored: bool) -> Image.Image:
    """A label map and its photo, side by side: the same boxes in other greys; the photo perhaps mirrored."""
    rng = np.random.default_rng(number)
    sides = [Image.new("RGB", (256, 256), "grey") for _ in range(2)]
    for _ in range(14):
        (left, top), (width, height) = rng.uniform(-50, 256, 2), rng.uniform(12, 100, 2)
        for side, grey in zip(sides, rng.integers(0, 255, 2), strict=True):
            ImageDraw.Draw(side).rectangle((left, top, left + width, top + height), (int(grey),) * 3)
    both = Image.new("RGB", (512, 256))
    both.paste(sides[0], (0, 0))
    both.paste(sides[1].transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else sides[1], (256, 0))
    return both


@pytest.mark.parametrize(("mirrored", "found"), [(0, False), (1, True)])
def test_mirrored_pairs(tmp_path, mirrored, found):
    (tmp_path / "train").mkdir()
    for number in range(12):
        _shapes(number, number < 10 * mirrored).save(tmp_path / "train" / f"{number:02}.png")
    outcome = doctor.check_pairs(Data(find_pairs(tmp_path), {}, Reading()))
    assert isinstance(outcome, Finding) == found
    assert not found or "mirrored" in outcome.evidence


@pytest.mark.parametrize(("alone", "found"), [(124, Finding), (126, type(None)), (81, Finding), (79, Skipped)])
def test_a_run_that_waits_for_its_pairs(alone, found):
    history = [{"images_per_sec": rate} for rate in (None, 90, 100, 250)]  # the middle one counts
    assert type(speed.check_speed(alone, history)) is found
    assert isinstance(speed.check_speed(alone, [{"images_per_sec": None}]), Skipped)


def test_the_pipelines_pace_is_that_of_its_batches(tmp_path, monkeypatch):
    """On a clock that a batch moves by a quarter of a second; the first two, by much more, are not timed."""
    clock = [100.0]

    def batches():
        for secs in (2.0, 1.0, *[0.25] * 100):
            clock[0] += secs
            yield None

    monkeypatch.setattr(speed.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(speed, "training_dataset", lambda *_: batches())
    write_pairs(tmp_path / "train", 12)
    config, data = resolve(small_config(tmp_path), None, tmp_path, quiet)
    assert speed.measure_pipeline(config, data) == pytest.approx(4 / 0.25)


@pytest.mark.slow
def test_a_discriminator_that_wins_is_said_once_and_at_the_end(tmp_path, one_device):
    """Targets of noise, which no generator can make, and one that hardly listens to it. Then the run goes on."""
    (tmp_path / "pairs" / "train").mkdir(parents=True)
    for number in range(8):
        noise = np.random.default_rng(number).integers(0, 256, (32, 64, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "pairs" / "train" / f"{number}.png")
    config = small_config(
        tmp_path / "pairs", batch_size=1, lambda_l1=1e5, learning_rate=1e-3, epochs=160, samples_every_epochs=160
    )
    told = []
    assert train(config, tmp_path / "run", one_device, told.append) is None
    said = [number for number, line in enumerate(told) if line.startswith("Doctor: discriminator won: its loss is 0.0")]
    listed = [line for line in told if line.startswith("Doctor:     discriminator won")]
    assert (len(said), len(listed)) == (1, 1)
    assert told[said[0] - 1].startswith("epoch ")
    assert told[-2] == f"Doctor:     p2p-doctor --workdir={tmp_path / 'run'} looks at the pictures as well"
    more, longer = [], dataclasses.replace(config, epochs=162)
    assert train(longer, tmp_path / "run", one_device, more.append) is None
    assert len(read_history(tmp_path / "run")) == 162
    assert not [line for line in more if line.startswith("Doctor: discriminator won")]
    assert call_command(doctor_command, f"--workdir={tmp_path / 'run'}") == 1
    found = json.loads((tmp_path / "run" / "doctor.json").read_text())["findings"]
    assert found[0]["name"] == "discriminator won"
    assert found[0].keys() == {"name", "evidence", "meaning", "remedy"}


def test_over_fitting_by_the_history_is_found_without_pictures(quiet_machine, finished_copy):
    """As of a run of label maps, or without a checkpoint."""
    (before, *_), path = read_history(finished_copy), finished_copy / "history.jsonl"
    path.unlink()
    for epoch, (train_l1, val_l1) in enumerate(zip((0.5, 0.3, 0.2, 0.15), (0.3, 0.4, 0.6, 0.65), strict=True), 1):
        evaluation = {"split": "val", "count": 3, "l1": val_l1}
        record = {**before, "step": 3 * epoch, "epoch": float(epoch), "l1_loss": train_l1, "evaluation": evaluation}
        append_history(finished_copy, record)
    shutil.rmtree(finished_copy / "checkpoints")
    assert "over-fitting" in [finding.name for finding in examine(finished_copy, report=quiet).findings]
