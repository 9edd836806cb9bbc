import json
import math
import os

import pytest

from p2p_keras.workdir.history import HISTORY, append_history, keep_history, read_history


def record(step: int, **more: object) -> dict:
    losses = {"generator_loss": 50.0, "gan_loss": 0.7, "l1_loss": 0.5, "discriminator_loss": 0.7}
    return {"step": step, "epoch": step / 5, **losses, **more}


def test_only_the_steps_that_are_done_are_kept(tmp_path):
    assert read_history(tmp_path) == []
    for step in (5, 10, 15):
        append_history(tmp_path, record(step))
    append_history(tmp_path, record(8))  # of a run that ended in the middle of an epoch and was then made longer
    keep_history(tmp_path, 10, 2, pytest.fail)
    assert read_history(tmp_path) == [record(5), record(10)]


def test_a_line_cut_short_costs_that_line_alone(tmp_path):
    append_history(tmp_path, record(5))
    with open(tmp_path / HISTORY, "a") as file:
        file.write('{"step": 10, "cut')  # what a power cut may leave
    append_history(tmp_path, record(15))
    assert read_history(tmp_path) == [record(5), record(15)]


def test_damage_costs_the_damaged_lines_alone(tmp_path):
    append_history(tmp_path, record(5))
    with open(tmp_path / HISTORY, "ab") as file:
        file.write(b"\xff\xfe\n12\n[]\n{}\n")
    append_history(tmp_path, record(10))
    assert read_history(tmp_path) == [record(5), record(10)]


@pytest.mark.parametrize(
    "line",
    [
        '{"step": 7, "epoch": 1}',
        json.dumps({**record(7), "step": "7"}),
        json.dumps({**record(7), "epoch": None}),
        json.dumps(record(7, gan_loss=None)),
        json.dumps(record(7, evaluation=None)),
        json.dumps(record(7, evaluation={"l1": 0.5})),  # of which split?
        json.dumps(record(7, evaluation={"split": "val", "l1": "0.5"})),
        json.dumps(record(0)),
        json.dumps(record(5, epoch=-1.0)),
        json.dumps(record(5, epoch=1e300)),
        json.dumps({**record(5), "step": 10**400}),
        json.dumps(record(5, generator_loss="50")),
        json.dumps(record(5, images_per_sec="9")),
        json.dumps(record(5, images_per_sec=math.nan)),
        json.dumps(record(5, secs=[])),
        "[" * 100_000,
    ],
    ids=range(16),
)
def test_a_line_that_is_no_record_costs_that_line_alone(line, tmp_path):
    """Whatever reads the history, as the curves do, may rely on what is in a record."""
    scores = {"split": "val", "count": 3, "fingerprint": "f", "extractor": None, "l1": 0.5}
    whole = record(10, images_per_sec=None, secs=9.0, evaluation=scores)
    (tmp_path / HISTORY).write_text(f"{line}\n{json.dumps(whole)}\n")
    assert read_history(tmp_path) == [whole]


def test_a_mark_before_the_first_line_costs_nothing(tmp_path):
    (tmp_path / HISTORY).write_text(json.dumps(record(5)) + "\n", encoding="utf-8-sig")
    keep_history(tmp_path, 5, 1, pytest.fail)
    assert read_history(tmp_path) == [record(5)]


def test_a_pipe_in_place_of_the_history_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "history.jsonl")
    assert read_history(tmp_path) == []


def test_a_digit_that_is_not_as_written_costs_its_line_and_what_is_lost_is_named(tmp_path):
    for step in (5, 10, 15):
        append_history(tmp_path, record(step, evaluation={"split": "val", "l1": 0.25}))
    content = (tmp_path / HISTORY).read_bytes().splitlines(keepends=True)
    (tmp_path / HISTORY).write_bytes(content[0] + content[1].replace(b"0.25", b"0.24") + content[2])
    assert [found["step"] for found in read_history(tmp_path)] == [5, 15]
    told = []
    keep_history(tmp_path, 15, 3, told.append)
    (line,) = told
    assert line.startswith(f"{tmp_path / HISTORY} is damaged, or was cut off: of 3 epochs, what 1 came to, the first")
    (tmp_path / HISTORY).unlink()
    keep_history(tmp_path, 15, 3, told.append)
    assert "what 3 came to" in told[1]


def test_lines_of_an_earlier_version_have_no_checksum_and_count(tmp_path):
    (tmp_path / HISTORY).write_text(json.dumps(record(5)) + "\n")
    keep_history(tmp_path, 5, 1, pytest.fail)
    assert read_history(tmp_path) == [record(5)]
    assert "crc32" in (tmp_path / HISTORY).read_text()
