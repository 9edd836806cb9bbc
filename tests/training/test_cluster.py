"""Several hosts, as processes on loopback."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import (
    assert_same_end,
    checkpoint_values,
    finish_all,
    quiet,
    small_config,
    start_hosts,
    write_pairs,
)

from p2p_keras.errors import UserError
from p2p_keras.presets import BEST, make_config
from p2p_keras.system.hosts import Hosts, cluster_resolver
from p2p_keras.training.cluster import check_equal
from p2p_keras.training.run import train

TRAIN = ("-m", "p2p_keras.cli.train")
_WAIT_SECS = 240  # for the end of processes: no measure, only the end of a test that hangs
# p2p-train with several CPU devices. TensorFlow takes all GPUs of each host, but of CPUs only the first one;
# here it is told of all, as it finds the GPUs.
_SEVERAL_DEVICES = """
import sys
import tensorflow as tf
from tensorflow.python.distribute.collective_all_reduce_strategy import CollectiveAllReduceExtended

count = int(sys.argv.pop(1))
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * count)
CollectiveAllReduceExtended._initialize_local_devices = lambda self, resolver, worker: (
    tuple(f"{worker}/device:CPU:{number}" for number in range(count)), "CPU"
)
from p2p_keras.cli.train import entry_point
entry_point()
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("pairs")
    write_pairs(root / "train", 12)
    return root


def _flags(data: Path, workdir: Path, *more: str) -> list[str]:
    small = "--image_size=32 --base_filters=4 --discriminator=pixel --batch_size=4 --precision=float32"
    return [f"--data_dir={data}", f"--workdir={workdir}", "--direction=AtoB", *small.split(), *more]


def _wait_for(path: Path, started: list[subprocess.Popen]) -> None:
    until = time.monotonic() + _WAIT_SECS
    while not path.exists() and time.monotonic() < until and all(one.poll() is None for one in started):
        time.sleep(0.05)
    assert path.exists()


def test_a_cluster_is_found_in_the_environment():
    def config(*members: str) -> dict[str, str]:
        return {"TF_CONFIG": json.dumps({"cluster": {"worker": members}, "task": {"type": "worker", "index": 0}})}

    assert cluster_resolver({}) is None
    assert cluster_resolver(config("a:1")) is None  # one worker is no cluster
    for nobody in ("{}", '{"cluster": {}}', '{"cluster": {"worker": ["a:1"]}, "task": null}'):
        assert cluster_resolver({"TF_CONFIG": nobody}) is None
    assert cluster_resolver({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}) is None  # as in a job of one task
    found = cluster_resolver(config("a:1", "b:1"))
    assert found.cluster_spec().as_dict() == {"worker": ["a:1", "b:1"]}
    assert (found.task_type, found.task_id) == ("worker", 0)
    with_chief = {"cluster": {"chief": ["a:1"], "worker": ["b:1"], "evaluator": ["c:1"]}, "task": {"type": "worker"}}
    with_chief["task"]["index"] = "0"  # as some operators write it
    found = cluster_resolver({"TF_CONFIG": json.dumps(with_chief)})
    assert found.cluster_spec().as_dict() == {"chief": ["a:1"], "worker": ["b:1"]}  # who evaluates does not train
    assert (found.task_type, found.task_id) == ("worker", 0)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{oops", "it is no JSON"),
        ("[]", "it is no object with cluster, lists of host:port, and task"),
        ('{"cluster": {"worker": ["a:1", ""]}, "task": {"type": "worker", "index": 0}}', "lists of host:port"),
        ('{"cluster": {"worker": "ab"}, "task": {"type": "worker", "index": 0}}', "lists of host:port"),
        ('{"cluster": {"worker": ["a:1", "\\ud800:1"]}, "task": {"type": "worker", "index": 0}}', "lists of host:port"),
        ('{"cluster": {"worker": ["a:1", "a:1"]}, "task": {"type": "worker", "index": 0}}', "names one of them twice"),
        ('{"cluster": {"chief": ["a:1"], "worker": ["a:1"]}, "task": {"type": "chief", "index": 0}}', "of them twice"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}}', "it is no object with cluster, lists of host:port, and task"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}', "task is none of"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": "x"}}', "task is none of"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "evaluator", "index": 0}}', "task is none of"),
        ('{"cluster": {"worker": ["a:1", "b:1"], "evaluator": ["c:1"]}, "task": {"type": "evaluator", "index": 0}}',
         "task is none of"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}', "task is none of"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "chief", "index": 0}}', "task is none of"),
        ('{"cluster": {"worker": ["a:1"], "evaluator": ["c:1"]}, "task": {"type": "evaluator", "index": 0}}',
         "task is none of"),
        ('{"cluster": {"worker": ["a:1", "b:1"], "ps": ["c"]}, "task": {"type": "ps", "index": 0}}', "task is none of"),
    ],
)  # fmt: skip
def test_a_bad_cluster_is_refused_in_words(text, problem):
    with pytest.raises(UserError, match=f"TF_CONFIG.*{problem}"):
        cluster_resolver({"TF_CONFIG": text})


def _slurm(**changed: str) -> dict[str, str]:
    step = {"STEP_NUM_TASKS": "3", "STEP_NODELIST": "n[9-10],m", "STEP_TASKS_PER_NODE": "1(x3)", "PROCID": "1"}
    return {f"SLURM_{name}": value for name, value in {**step, "JOB_ID": "70007", **changed}.items()}


def test_slurm_says_who_belongs_to_a_step():
    found = cluster_resolver(_slurm())
    assert found.cluster_spec().as_dict() == {"worker": ["n9:12007", "n10:12007", "m:12007"]}  # not sorted
    assert (found.task_type, found.task_id) == ("worker", 1)
    two_on_one = cluster_resolver(_slurm(STEP_NUM_TASKS="2", STEP_NODELIST="n1", STEP_TASKS_PER_NODE="2"))
    assert two_on_one.cluster_spec().as_dict() == {"worker": ["n1:12007", "n1:12008"]}


@pytest.mark.parametrize(
    "changed", [{"STEP_NODELIST": "n[9"}, {"PROCID": "3"}, {"PROCID": "x"}, {"STEP_TASKS_PER_NODE": "1"}]
)
def test_what_slurm_cannot_mean_is_refused(changed):
    with pytest.raises(UserError, match="Start by srun, one task on each node"):
        cluster_resolver(_slurm(**changed))


@pytest.mark.slow
def test_a_run_under_slurm(data, tmp_path):
    """With srun's variables, for there is no Slurm here."""
    job = {"STEP_NUM_TASKS": "2", "STEP_NODELIST": "localhost", "STEP_TASKS_PER_NODE": "2", "JOB_ID": str(os.getpid())}
    started = []
    for index in range(2):
        more = {**_slurm(**job, PROCID=str(index)), "CUDA_VISIBLE_DEVICES": "", "TMPDIR": str(tmp_path)}
        command = [sys.executable, *TRAIN, *_flags(data, tmp_path / f"run{index}", "--steps=1")]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, env={**os.environ, **more}, **pipes))
    results = finish_all(started)
    assert [status for status, _, _ in results] == [0, 0], results
    assert "on 2 device(s) of 2 hosts" in results[0][1]
    assert not (tmp_path / "run1").exists()


class _Pair(Hosts):
    """Stands for two hosts: the first call is host 0's, the second host 1's."""

    said = None

    def __init__(self):
        super().__init__()
        self.count = 2

    def agree(self, values):
        self.said = self.said or values
        return np.array([self.said, values])


@pytest.mark.parametrize("settings", [{"seed": 7}, {"epochs": 9}, {"checkpoint_every_steps": 7}, {"direction": "BtoA"}])
def test_what_all_hosts_must_do_alike_is_compared(settings):
    hosts = _Pair()
    check_equal(hosts, make_config(data_dir="x", direction="AtoB"), "f")
    with pytest.raises(UserError, match=f"Host 1 differs from host 0 in --{next(iter(settings))}\\."):
        check_equal(hosts, make_config(**{"data_dir": "x", "direction": "AtoB", **settings}), "f")
    check_equal(hosts, make_config(data_dir="y", direction="AtoB", keep_checkpoints=9), "f")  # the chief's alone counts


def test_without_a_cluster_a_host_agrees_with_itself(one_device):
    hosts = Hosts(one_device)
    assert (hosts.count, hosts.index, hosts.is_chief) == (1, 0, True)
    np.testing.assert_array_equal(hosts.agree([3, 2**62]), [[3, 2**62]])
    check_equal(hosts, None, "x")  # nothing to compare with


@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_two_hosts_equal_one_with_two_devices(data, tmp_path, two_devices, devices):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    steps = ("--steps=2", "--samples_every_epochs=1")
    program = ("-c", _SEVERAL_DEVICES)
    hosts = [[str(devices), *_flags(data, tmp_path / name, *steps)] for name in ("two", "other")]
    (status, out, err), (other_status, other_out, other_err) = finish_all(start_hosts(program, hosts, scratch))
    assert (status, other_status) == (0, 0), err + other_err
    assert f"batch 4 in float32 on {2 * devices} device(s) of 2 hosts" in out
    assert other_out == "Host 1 of 0 to 1: computes its share; host 0 writes and reports\n"
    assert not (tmp_path / "other").exists()
    assert list(scratch.iterdir()) == []

    small = {"discriminator": "pixel", "epochs": None, "steps": 2, **BEST, "batch_size": 4}
    assert train(small_config(data, **small), tmp_path / "one", two_devices, quiet) is None
    ours, theirs = (checkpoint_values(tmp_path / name, 2) for name in ("two", "one"))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        # A process alone on its threads may add up a kernel's gradient in another order: some 1e-7 of it, which Adam's
        # first steps, whose length is the learning rate of 6e-4 whatever the gradient, may turn into a part of that.
        np.testing.assert_allclose(ours[name], value, rtol=1e-3, atol=6e-5, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("host", "every"), [(1, 100), (0, 100), (0, 2)], ids=["other", "chief", "chief in a checkpoint"]
)
def test_a_host_that_is_killed_ends_the_others_and_the_run_goes_on_to_the_same_end(data, tmp_path, host, every):
    more = ("--steps=30000", f"--checkpoint_every_steps={every}", "--samples_every_epochs=50000")
    started = start_hosts(TRAIN, [_flags(data, tmp_path / name, *more) for name in ("run", "other")], tmp_path)
    _wait_for(tmp_path / "run" / "checkpoints" / f"step_{2 * every:08d}", started)
    started[host].kill()
    killed = time.monotonic()
    status, _, err = finish_all(started)[1 - host]
    assert status == 75
    assert time.monotonic() - killed < 60
    assert err.count("\n") == 1
    assert "One of them has gone or refused" in err
    assert "what host 0 says" in err
    left = max(int(path.name[5:]) for path in (tmp_path / "run" / "checkpoints").glob("step_" + "[0-9]" * 8))
    more = (f"--steps={left + 100}", *more[1:])
    for name in ("run", "whole"):
        results = finish_all(
            start_hosts(TRAIN, [_flags(data, tmp_path / part, *more) for part in (name, "other")], tmp_path)
        )
        assert [result[0] for result in results] == [0, 0], results
    assert_same_end(tmp_path / "run", tmp_path / "whole", left + 100)


@pytest.mark.slow
def test_sigterm_on_one_host_saves_and_stops_all(data, tmp_path):
    more = ("--steps=100000", "--checkpoint_every_steps=100", "--samples_every_epochs=50000")
    started = start_hosts(TRAIN, [_flags(data, tmp_path / name, *more) for name in ("run", "other")], tmp_path)
    _wait_for(tmp_path / "run" / "checkpoints" / "step_00000100", started)
    started[1].send_signal(signal.SIGTERM)
    results = finish_all(started)
    assert [result[0] for result in results] == [128 + signal.SIGTERM] * 2
    assert "The same command continues from the checkpoint named below" in results[0][1]


@pytest.mark.slow
def test_a_run_goes_on_on_more_hosts_and_on_fewer(data, tmp_path):
    for count, steps in ((2, 2), (4, 4), (1, 6)):
        hosts = [_flags(data, tmp_path / (f"other{i}" if i else "run"), f"--steps={steps}") for i in range(count)]
        results = finish_all(start_hosts(TRAIN, hosts, tmp_path))
        assert [result[0] for result in results] == [0] * count, results
        assert f"on {count} device(s){f' of {count} hosts' if count > 1 else ''}, steps {steps - 1} to" in results[0][1]
    ((status, _, err),) = finish_all(start_hosts(TRAIN, [_flags(data, tmp_path / "one", "--steps=6")], tmp_path))
    assert status == 0, err
    ours, theirs = (checkpoint_values(tmp_path / name, 6) for name in ("run", "one"))
    for name, value in theirs.items():  # within a twentieth of the way that Adam goes in six steps; see above for why
        np.testing.assert_allclose(ours[name], value, rtol=1e-3, atol=6e-5, err_msg=name)


@pytest.mark.slow
def test_what_differs_is_named_with_the_host(data, tmp_path):
    hosts = [_flags(data, tmp_path / "run"), _flags(data, tmp_path / "other", "--seed=7")]
    for status, _, err in finish_all(start_hosts(TRAIN, hosts, tmp_path)):
        assert status == 2
        assert "Host 1 differs from host 0 in --seed. Give the same command everywhere" in err
    assert not (tmp_path / "run" / "config.json").exists()
