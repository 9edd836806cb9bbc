import csv
import errno
import json
import os

import numpy as np
import pytest
from conftest import quiet

from p2p_keras.evaluation import records
from p2p_keras.evaluation.records import add_record, comparable, forget_later, read_records
from p2p_keras.evaluation.words import remarks, table


def _record(step: int, extractor: str | None = None, images: str = "p", weights: str = "w", **metrics: float) -> dict:
    return {
        "step": step,
        "epoch": step / 100,
        "weights": weights,
        "count": 7,
        "metrics": metrics,
        "absent": {},
        "cautions": [],
        "extractor": extractor and {"sha256": extractor},
        "pictures": {"split": "test", "fingerprint": images},
    }


def _steps_and_extractors(folder) -> list[tuple]:
    return [(record["step"], record["extractor"]) for record in read_records(folder)]


def test_records_join_by_step_and_a_newer_one_replaces_its_like(tmp_path):
    folder = tmp_path / "eval" / "test"
    assert read_records(folder) == []
    add_record(folder, _record(200, l1=0.2))
    add_record(folder, _record(100, l1=0.1))
    add_record(folder, _record(200, l1=0.3))
    assert [(r["step"], r["metrics"]["l1"]) for r in read_records(folder)] == [(100, 0.1), (200, 0.3)]
    assert json.loads((folder / "metrics.json").read_text())["format"] == 1


def test_nothing_is_lost_by_evaluating_without_the_extractor(tmp_path):
    add_record(tmp_path, _record(100, l1=0.1))
    add_record(tmp_path, _record(100, "abc", l1=0.1, fid=20.0))  # says all that the first one said
    add_record(tmp_path, _record(100, l1=0.1))
    assert _steps_and_extractors(tmp_path) == [(100, {"sha256": "abc"})]
    add_record(tmp_path, _record(100, "def", l1=0.1, fid=30.0))  # another extractor's FID stands beside
    add_record(tmp_path, _record(100, images="others", l1=0.5))
    assert len(read_records(tmp_path)) == 3


def test_a_curve_mixes_neither_images_nor_extractors():
    known = [_record(1, "a"), _record(2, "b"), _record(3), _record(4, "a", images="others"), _record(5, "a")]
    assert [r["step"] for r in comparable(known, _record(6, "a"))] == [1, 3, 5]
    assert [r["step"] for r in comparable(known, _record(6, "b"))] == [2, 3]
    assert [r["step"] for r in comparable(known, _record(6))] == [1, 3, 5]  # the newest extractor's
    assert [r["step"] for r in comparable(known[2:3], _record(6))] == [3]


def test_another_reference_takes_nobodys_place_and_no_place_on_their_curve(tmp_path):
    own, other = _record(100, "abc", fid=20.0), _record(100, "abc", fid=30.0)
    other["pictures"]["reference"] = {"split": "train", "count": 9, "fingerprint": "f"}
    third = json.loads(json.dumps(other))
    third["pictures"]["reference"]["fingerprint"] = "g"
    for record in (own, other, third, own, other, third):
        add_record(tmp_path, record)
    add_record(tmp_path, _record(200, "abc", fid=25.0))
    known = read_records(tmp_path)
    assert [(r["step"], r["metrics"]["fid"]) for r in known] == [(100, 20.0), (100, 30.0), (100, 30.0), (200, 25.0)]
    assert comparable(known, own) == [known[0], known[3]]  # those of earlier versions say nothing of a reference
    assert comparable(known, other) == [other]
    assert comparable(known, {**other, "extractor": None}) == [other]
    assert remarks(other) == ["FID and KID compare with the 9 targets of train/"]
    assert remarks(own) == []


@pytest.mark.parametrize("text", ['{"records": ', "[" * 100_000], ids=["cut short", "too deep"])
def test_a_damaged_file_is_put_aside_and_begun_anew(text, tmp_path):
    (tmp_path / "metrics.json").write_text(text)
    forget_later(tmp_path.parent, 0, quiet)
    add_record(tmp_path, _record(100, l1=0.1))
    assert _steps_and_extractors(tmp_path) == [(100, None)]
    assert (tmp_path / "metrics.json.damaged").read_text() == text
    (tmp_path / "metrics.json").write_text("damaged again")
    add_record(tmp_path, _record(100, l1=0.1))
    assert (tmp_path / "metrics.json.damaged").read_text() == text
    assert (tmp_path / "metrics.json.damaged2").read_text() == "damaged again"


def test_a_digit_that_is_not_as_written_costs_its_record_and_is_named(tmp_path):
    for step in (100, 200):
        add_record(tmp_path, _record(step, l1=0.125), report=pytest.fail)
    path = tmp_path / "metrics.json"
    path.write_text(path.read_text().replace("0.125", "0.135", 1))
    assert _steps_and_extractors(tmp_path) == [(200, None)]
    told = []
    add_record(tmp_path, _record(300, l1=0.1), report=told.append)
    assert told == [
        f"{path} is damaged; what can be read in it stays, and as it was it is now called {path.name}.damaged"
    ]
    assert [step for step, _ in _steps_and_extractors(tmp_path)] == [200, 300]


@pytest.mark.parametrize("act", ["add", "forget"])
def test_a_record_that_cannot_be_understood_is_kept_aside_when_the_others_are_written(act, tmp_path):
    folder = tmp_path / "eval" / "val"
    folder.mkdir(parents=True)
    text = json.dumps({"records": [{"step": "100"}, _record(100, l1=0.1), _record(200, l1=0.2)]})
    (folder / "metrics.json").write_text(text)
    if act == "add":
        add_record(folder, _record(300, l1=0.3))
    else:
        forget_later(tmp_path, 100, quiet)
    assert [r["step"] for r in read_records(folder)] == ([100, 200, 300] if act == "add" else [100])
    assert (folder / "metrics.json.damaged").read_text() == text
    add_record(folder, _record(400, l1=0.4))
    assert len(list(folder.glob("*.damaged*"))) == 1


def test_a_mark_before_the_text_costs_nothing(tmp_path):
    """As some editors write it."""
    add_record(tmp_path, _record(100, l1=0.1))
    path = tmp_path / "metrics.json"
    path.write_text(path.read_text(), encoding="utf-8-sig")
    add_record(tmp_path, _record(200, l1=0.1))
    assert _steps_and_extractors(tmp_path) == [(100, None), (200, None)]


def test_what_is_no_record_is_skipped(tmp_path):
    whole = _record(100, l1=0.1)
    broken = [
        *({key: value for key, value in whole.items() if key != name} for name in ("step", "count", "extractor")),
        *({**whole, name: None} for name in ("step", "epoch", "pictures", "metrics")),
        *({**whole, "pictures": {"split": "val"}}, {**whole, "extractor": {"name": "x"}}, {**whole, "step": "1"}),
        *({**whole, "metrics": {"l1": "0.1"}}, 7, None),
        *({**whole, "pictures": {**whole["pictures"], "reference": r}} for r in ("train", None, {"split": "train"})),
    ]
    for record in broken:
        (tmp_path / "metrics.json").write_text(json.dumps({"records": [record, whole]}))
        assert read_records(tmp_path) == [whole], record


def _rows(folder) -> list[list[str]]:
    with open(folder / "per_image.csv", newline="") as file:
        return list(csv.reader(file))


def test_per_image_values_join_by_step_and_name(tmp_path):
    add_record(tmp_path, _record(20), ["b, c.png", "a.png"], {"l1": np.array([0.25, 0.5])})
    add_record(tmp_path, _record(10), ["a.png"], {"l1": np.array([0.125])})
    add_record(tmp_path, _record(20), ["a.png"], {"l1": np.array([np.inf])})
    assert _rows(tmp_path) == [
        ["step", "name", "l1"],
        ["10", "a.png", "0.125"],
        ["20", "a.png", "inf"],
        ["20", "b, c.png", "0.25"],
    ]


def test_what_other_weights_of_the_same_step_scored_goes_with_all_its_numbers(tmp_path):
    """A run that was begun anew: whether with an extractor or not, of these or of other images."""
    for record in (_record(100, "abc", fid=20.0), _record(100, images="few", l1=0.3), _record(200, l1=0.2)):
        add_record(tmp_path, record, ["a.png", "b.png"], {"l1": np.array([0.5, 0.5])})
    add_record(tmp_path, _record(100, weights="new", l1=0.4), ["a.png"], {"l1": np.array([0.25])})
    assert [(r["step"], r["weights"], r["metrics"]) for r in read_records(tmp_path)] == [
        (100, "new", {"l1": 0.4}),
        (200, "w", {"l1": 0.2}),
    ]
    assert _rows(tmp_path)[1:] == [["100", "a.png", "0.25"], ["200", "a.png", "0.5"], ["200", "b.png", "0.5"]]
    old = _record(300, l1=0.1)
    del old["weights"]  # as earlier versions wrote it
    (tmp_path / "metrics.json").write_text(json.dumps({"format": 1, "records": [old]}))
    assert read_records(tmp_path) == [old]
    add_record(tmp_path, _record(300, l1=0.2))
    assert [r["metrics"]["l1"] for r in read_records(tmp_path)] == [0.2]


def test_a_record_of_an_earlier_version_stays_if_it_must_be_of_the_same_weights(tmp_path):
    """It has the FID, which an evaluation without network would otherwise cost; all else that it says is the same."""
    old = _record(300, "abc", l1=0.1, fid=20.0)
    del old["weights"]
    (tmp_path / "metrics.json").write_text(json.dumps({"format": 1, "records": [old]}))
    add_record(tmp_path, _record(300, l1=0.1))
    assert [r["metrics"].get("fid") for r in read_records(tmp_path)] == [20.0]


def test_a_metric_that_an_earlier_version_did_not_know_says_nothing_of_the_weights(tmp_path):
    old = _record(300, "abc", l1=0.1, fid=20.0)
    del old["weights"]
    (tmp_path / "metrics.json").write_text(json.dumps({"format": 1, "records": [old]}))
    add_record(tmp_path, _record(300, l1=0.1, crossview_ssim=0.5))
    assert [r["metrics"].get("fid") for r in read_records(tmp_path)] == [20.0]


def test_what_was_scored_at_later_steps_goes_when_a_run_continues_further_back(tmp_path):
    folder = tmp_path / "eval" / "val"
    for step in (25, 50, 75):
        add_record(folder, _record(step, l1=0.1), ["a.png"], {"l1": np.array([0.1])})
    forget_later(tmp_path, 50, quiet)
    assert [r["step"] for r in read_records(folder)] == [25, 50]
    assert [row[0] for row in _rows(folder)] == ["step", "25", "50"]
    forget_later(tmp_path, 0, quiet)  # it is begun anew
    assert read_records(folder) == []
    assert len(_rows(folder)) == 1
    add_record(folder, _record(25, l1=0.1))
    assert [path.name for path in folder.glob("*.damaged")] == []  # a list without records is whole
    forget_later(tmp_path / "none", 0, quiet)


def test_where_no_image_was_listed_forgetting_makes_no_list(tmp_path):
    """Evaluations while training write metrics.json alone."""
    folder = tmp_path / "eval" / "val"
    add_record(folder, _record(75, l1=0.1))
    forget_later(tmp_path, 0, quiet)
    assert read_records(folder) == []
    assert not (folder / "per_image.csv").exists()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1"])
def test_a_list_that_another_program_saved_keeps_its_rows(encoding, tmp_path):
    """Spreadsheets write a mark before UTF-8, and old names of files are not UTF-8 at all."""
    path = tmp_path / "per_image.csv"
    path.write_bytes("step,name,l1\r\n10,Stra\u00dfe.png,0.5\r\n".encode(encoding))
    add_record(tmp_path, _record(20), ["a.png"], {"l1": np.array([0.25])})
    name = "Stra\u00dfe.png".encode(encoding.removesuffix("-sig"))
    assert path.read_bytes() == b"step,name,l1\n10," + name + b",0.5\n20,a.png,0.25\n"


@pytest.mark.parametrize("text", ["step;name;l1\n10;a.png;0,5\n", "step,name,l1\n10," + "x" * 200_000 + ",0.5\n"])
def test_a_list_that_cannot_be_read_is_put_aside(text, tmp_path):
    (tmp_path / "per_image.csv").write_text(text)
    add_record(tmp_path, _record(20), ["a.png"], {"l1": np.array([0.25])})
    assert _rows(tmp_path) == [["step", "name", "l1"], ["20", "a.png", "0.25"]]
    assert (tmp_path / "per_image.csv.damaged").read_text() == text


@pytest.mark.parametrize("act", ["add", "forget"])
@pytest.mark.parametrize(
    "row", ["10,a.png,0.5,0.5", "10.0,a.png,0.5", "-10,a.png,0.5", ",a.png,0.5", "9" * 5000 + ",a.png,0.5", "²,a,1"]
)
def test_rows_that_cannot_be_understood_are_kept_aside_with_all_the_others(row, act, tmp_path):
    folder = tmp_path / "eval" / "val"
    add_record(folder, _record(10, l1=0.5), ["b.png"], {"l1": np.array([0.5])})
    add_record(folder, _record(20, l1=0.5), ["b.png"], {"l1": np.array([0.5])})
    path = folder / "per_image.csv"
    text = path.read_text() + row + "\n"
    path.write_text(text)
    if act == "add":
        add_record(folder, _record(30), ["b.png"], {"l1": np.array([0.25])})
    else:
        forget_later(tmp_path, 10, quiet)
    assert [row[:2] for row in _rows(folder)[1:]] == [
        [s, "b.png"] for s in (("10", "20", "30") if act == "add" else ("10",))
    ]
    assert (folder / "per_image.csv.damaged").read_text() == text
    add_record(folder, _record(40), ["b.png"], {"l1": np.array([0.25])})
    assert len(list(folder.glob("*.damaged*"))) == 1


def test_what_cannot_be_changed_does_not_keep_a_run_from_continuing(tmp_path, monkeypatch):
    """Of another user, or of a disk that is read only. Where nothing is to be dropped, nothing is opened to write."""
    for split in ("test", "val"):
        add_record(tmp_path / "eval" / split, _record(50, l1=0.1))

    def refuse(path, wait):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(records, "locked", refuse)
    told = []
    forget_later(tmp_path, 50, told.append)
    assert told == []
    forget_later(tmp_path, 49, told.append)
    assert [line.split(" (")[0] for line in told] == [
        f"What was scored after step 49 stays in {tmp_path / 'eval' / split}" for split in ("test", "val")
    ]


def test_a_kill_while_forgetting_leaves_no_rows_without_a_record(tmp_path, monkeypatch):
    add_record(tmp_path / "eval" / "val", _record(50, l1=0.1), ["a.png"], {"l1": np.array([0.1])})

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(records, "_write_records", killed)
    with pytest.raises(KeyboardInterrupt):
        forget_later(tmp_path, 0, quiet)
    assert _rows(tmp_path / "eval" / "val")[1:] == []


def test_another_metric_keeps_the_rows_of_other_steps(tmp_path):
    add_record(tmp_path, _record(10), ["a.png"], {"l1": np.array([0.5])})
    add_record(tmp_path, _record(20), ["a.png"], {"l1": np.array([0.25]), "psnr": np.array([9.0])})
    assert _rows(tmp_path) == [["step", "name", "l1", "psnr"], ["10", "a.png", "0.5", ""], ["20", "a.png", "0.25", "9"]]


def test_a_name_that_a_spreadsheet_would_run_is_a_path_to_it(tmp_path):
    """A formula in it could send other cells away, or start a program."""
    names = ["=HYPERLINK(A1).png", "@SUM(A1).png", "+cmd|'x'!A0.png", "-1+cmd|'x'!A0.png", "-Jq,5_.png", "=a.png"]
    for _ in range(2):  # the second time they take the place of the first
        add_record(tmp_path, _record(10), names, {"l1": np.full(6, 0.5)})
    shown = [f"./{name}" for name in names[:4]] + names[4:]  # the last two are no formulas that do anything
    assert sorted(row[1] for row in _rows(tmp_path)[1:]) == sorted(shown)


def test_an_image_that_an_earlier_version_listed_by_its_plain_name_is_listed_once(tmp_path):
    name = "=HYPERLINK(A1).png"
    (tmp_path / "per_image.csv").write_text(f"step,name,l1\n3,{name},0.3\n7,{name},0.7\n")
    add_record(tmp_path, _record(7), [name], {"l1": np.array([0.5])})
    assert _rows(tmp_path) == [["step", "name", "l1"], ["3", f"./{name}", "0.3"], ["7", f"./{name}", "0.5"]]


def test_a_file_that_cannot_be_read_now_is_not_taken_for_an_empty_one(tmp_path, monkeypatch):
    add_record(tmp_path, _record(100, l1=0.1))
    before = (tmp_path / "metrics.json").read_bytes()

    def fail(path):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(records, "read_json", fail)
        with pytest.raises(OSError, match="Input/output"):
            add_record(tmp_path, _record(200, l1=0.2))
    assert (tmp_path / "metrics.json").read_bytes() == before


def test_the_table_shows_labels_and_gaps():
    numbers = {"fid@768": 2.25, "kid@768": 0.00595, "kid_std@768": 0.0002, "l1": 0.3691}
    lines = table([_record(1000, "a", **numbers), _record(2000, l1=0.25)]).splitlines()
    assert lines[0].split() == ["step", "epoch", "L1", "FID@768", "KID@768", "x1000"]
    assert lines[1].split() == ["1000", "10", "0.3691", "2.250", "5.95", "±", "0.20"]
    assert lines[2].split() == ["2000", "20", "0.2500", "-", "-"]


def test_the_table_shows_the_metrics_of_label_maps():
    lines = table([_record(1000, l1=0.25, pixel_accuracy=0.75, mean_iou=0.5)]).splitlines()
    assert lines[0].split() == ["step", "epoch", "L1", "accuracy", "mIoU"]
    assert lines[1].split() == ["1000", "10", "0.2500", "0.7500", "0.5000"]


def test_remarks_name_each_reason_once():
    record = {"cautions": ["few"], "absent": {"fid": "no network", "kid": "no network", "psnr": "infinite"}}
    assert remarks(record) == ["Caution: few", "Absent: fid, kid: no network", "Absent: psnr: infinite"]


def test_a_reference_is_named_only_beside_what_was_compared_with_it():
    record = {"absent": {}, "cautions": [], "extractor": {"sha256": "x"}}
    record["pictures"] = {"reference": {"split": "train", "count": 9, "fingerprint": "f"}}
    assert remarks(record) == ["FID and KID compare with the 9 targets of train/"]
    assert remarks({**record, "extractor": None}) == []


def test_a_pipe_in_place_of_the_scores_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "per_image.csv")
    add_record(tmp_path, _record(10), ["a.png"], {"l1": np.array([0.5])})
    assert _rows(tmp_path)[1:] == [["10", "a.png", "0.5"]]
