from p2p_keras.workdir.history import HISTORY, append_history, keep_history, read_history


def record(step: int) -> dict:
    return {"step": step, "epoch": step / 5}


def test_only_the_steps_that_are_done_are_kept(tmp_path):
    assert read_history(tmp_path) == []
    for step in (5, 10, 15):
        append_history(tmp_path, record(step))
    append_history(tmp_path, record(8))  # of a run that ended in the middle of an epoch and was then made longer
    keep_history(tmp_path, 10)
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
        file.write(b'{"step": "7", "epoch": 1}\n{"step": 7, "epoch": null}\n')
        file.write(b'{"step": 7, "epoch": 1, "evaluation": null}\n')
    append_history(tmp_path, record(10))
    assert read_history(tmp_path) == [record(5), record(10)]
