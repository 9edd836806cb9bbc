"""Every device and every host computes a share of an evaluation, and the numbers stay."""

import os
import shutil
import threading

import numpy as np
import pytest
import tensorflow as tf
from conftest import Eye, finish_all, quiet, run_command, start_hosts
from hypothesis import given
from hypothesis import strategies as st

from p2p_keras.errors import UserError
from p2p_keras.evaluation.lanes import Lane, each_in_order, gather, own_rows
from p2p_keras.evaluation.run import evaluate, open_evaluation
from p2p_keras.system.hosts import Hosts
from p2p_keras.workdir import checkpoints

EVAL = ("-m", "p2p_keras.cli.eval")
DEVICES = ("CPU:0", "CPU:1")


class _Network(tf.Module):
    """Looks at the mean colours of the image's quarters."""

    @tf.function(input_signature=[tf.TensorSpec((None, 299, 299, 3), name="images")])
    def __call__(self, images):
        quarters = tf.image.resize(images, (2, 2), method="area")
        return {"pool_3": tf.reshape(quarters, (-1, 12)), "logits": 5 * quarters[:, 0, 0]}


def _host(index: int, count: int) -> Hosts:
    """One of several, which reaches none of the others."""
    host = Hosts()
    host.count, host.index = count, index
    return host


def test_results_come_in_the_order_of_the_batches():
    """The first batch is done only when a later one is: so both lanes work at a time."""
    later = threading.Event()

    def work(lane: Lane, batch: int) -> tuple[int, str]:
        if batch == 0:
            assert later.wait(600)
        if batch == 1:
            later.set()
        return batch, tf.constant(0).device.rpartition("/")[2]

    results = list(each_in_order([Lane(None, device=device) for device in DEVICES], work, range(20)))
    assert [batch for batch, _ in results] == list(range(20))
    assert {device for _, device in results} == {f"device:{device}" for device in DEVICES}


def test_what_fails_in_a_lane_is_raised_and_no_more_is_begun():
    begun = []

    def work(lane: Lane, batch: int) -> int:
        begun.append(batch)
        if batch == 3:
            raise UserError("of batch 3")
        return batch

    results = each_in_order([Lane(None), Lane(None)], work, range(100))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(UserError, match="of batch 3"):
        next(results)
    assert max(begun) < 10


@given(st.integers(1, 9), st.integers(1, 200), st.integers(1, 20))
def test_hosts_share_out_whole_batches(hosts, count, batch_size):
    if -(-count // batch_size) < hosts:
        with pytest.raises(UserError, match=f"There are {hosts} hosts, and {count} images in batches of {batch_size}"):
            own_rows(_host(0, hosts), count, batch_size)
        return
    rows = [own_rows(_host(index, hosts), count, batch_size) for index in range(hosts)]
    assert [row for own in rows for row in own] == list(range(count))
    assert all(len(own) % batch_size == 0 for own in rows[:-1])
    assert max(map(len, rows)) - min(map(len, rows)) < 2 * batch_size


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_gathered_rows_are_those_of_each_host_bit_by_bit(dtype):
    values = np.random.default_rng(0).normal(size=(7, 3)).astype(dtype)
    values[3, 1] = np.inf if dtype is not np.int64 else 2**62
    hosts, given = [_host(index, 3) for index in range(3)], []
    for host in hosts:
        host.total = lambda mine: given.append(mine) or mine
        rows = own_rows(host, 7, 2)
        gather(host, values[rows.start : rows.stop], rows, 7)
    np.testing.assert_array_equal(np.sum(given, axis=0), values)


def test_two_devices_give_the_numbers_of_one(finished_copy, tmp_path):
    records = []
    for name, others in (("one", ()), ("two", DEVICES[1:])):
        shutil.copytree(finished_copy, tmp_path / name)
        run = open_evaluation(tmp_path / name, split="train", report=quiet)
        eyes = {device: Eye() for device in (None, *others)}
        extractors = {device: eye.extractor for device, eye in eyes.items()}
        records += evaluate(run, extractors.pop(None), batch_size=2, elsewhere=extractors)
        files = [(run.folder / file).read_bytes() for file in ("metrics.json", "per_image.csv", "sheet.png")]
        records[-1]["files"] = files
        assert all(eye.seen for eye in eyes.values())
    assert records[0] == records[1]


@pytest.mark.slow
def test_two_hosts_give_the_numbers_of_one(finished_copy, tmp_path):
    steps = finished_copy / "checkpoints"
    shutil.copytree(checkpoints.path_of(steps, 6), checkpoints.path_of(steps, 3))
    for name in ("one", "two"):
        shutil.copytree(finished_copy, tmp_path / name)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    flags = ("--split=train", "--batch_size=2", "--checkpoint=all", f"--inception={tmp_path / 'extractor'}")
    network = _Network()
    tf.saved_model.save(network, str(tmp_path / "extractor"), {"serving_default": network.__call__})
    one = run_command("eval", f"--workdir={tmp_path / 'one'}", *flags)
    assert one.returncode == 0, one.stderr
    for _ in range(2):  # with and without what is remembered of the targets
        hosts = finish_all(start_hosts(EVAL, [[f"--workdir={tmp_path / 'two'}", *flags]] * 2, scratch))
        assert [(status, err) for status, _, err in hosts] == [(0, ""), (0, "")], hosts
        assert hosts[0][1] == one.stdout.replace(str(tmp_path / "one"), str(tmp_path / "two"))
        assert hosts[1][1] == "Host 1 of 0 to 1: computes its share; host 0 writes and reports\n"
        for file in ("metrics.json", "per_image.csv", "sheet.png", "curves.png"):
            ours, theirs = ((tmp_path / name / "eval" / "train" / file).read_bytes() for name in ("two", "one"))
            assert ours == theirs, file
        scored = (tmp_path / "two/eval/train/metrics.json").read_text()
        assert scored.count('"fid@12"') == 2, scored
        assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("name", [pytest.param("eval", marks=pytest.mark.slow), "train"])
def test_a_cluster_that_is_none_is_one_line(finished_copy, name):
    environment = {**os.environ, "TF_CONFIG": "{oops"}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)  # as a user has it
    done = run_command(name, f"--workdir={finished_copy}", env=environment)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert "it is no JSON" in done.stderr


@pytest.mark.slow
def test_hosts_that_were_given_different_things_say_so(finished_copy, tmp_path):
    flags = [f"--workdir={finished_copy}", "--split=train", "--batch_size=2"]
    differences = {
        "--limit=6": "the images",
        "--batch_size=3": "--batch_size",
        f"--workdir={finished_copy},{finished_copy}": "how many runs --workdir names",
    }
    for more, named in differences.items():
        for status, _, err in finish_all(start_hosts(EVAL, [flags, [*flags, more]], tmp_path)):
            assert status == 2
            assert f"Host 1 differs from host 0 in {named}. Give the same command" in err
