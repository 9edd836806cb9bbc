import platform

import pytest

from p2p_keras.system import devices


def test_flags_of_a_cpu(tmp_path):
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nflags\t\t: fpu avx2 avx512_bf16 sse\nprocessor\t: 1\n")
    assert devices.cpu_flags(tmp_path / "cpuinfo") == {"fpu", "avx2", "avx512_bf16", "sse"}
    assert devices.cpu_flags(tmp_path / "none") == set()


def test_model_of_a_cpu(tmp_path):
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: AMD EPYC 9R14\nprocessor\t: 1\n")
    assert devices.cpu_model(tmp_path / "cpuinfo") == "AMD EPYC 9R14"
    assert devices.cpu_model(tmp_path / "none") in (platform.processor(), platform.machine())


def _stand_ins(monkeypatch, gpus, memories=()):
    """TensorFlow lists these GPUs, nvidia-smi those memories; the CPU is that of any machine."""
    monkeypatch.setattr(devices.tf.config, "list_physical_devices", lambda kind: range(len(gpus)))
    monkeypatch.setattr(devices.tf.config.experimental, "get_device_details", lambda gpu: gpus[gpu])
    monkeypatch.setattr(devices.nvidia, "list_gpus", lambda: [devices.nvidia.Gpu(*each) for each in memories])
    monkeypatch.setattr(devices.nvidia, "why_unused", lambda: "A GPU lies idle.")
    monkeypatch.setattr(devices, "cpu_model", lambda: "A CPU")
    monkeypatch.setattr(devices.os, "sched_getaffinity", lambda process: {0, 1, 2}, raising=False)
    monkeypatch.setattr(devices.memory, "of_machine", lambda: 2**33)


@pytest.mark.parametrize(
    ("gpus", "memories", "lines"),
    [
        (
            [{"device_name": "NVIDIA L4", "compute_capability": (8, 9)}],
            [("NVIDIA L4", 24 * 2**30)],
            ["GPU: NVIDIA L4, 24.0 GiB, compute capability 8.9"],
        ),
        (
            [{"device_name": "NVIDIA L4", "compute_capability": (8, 9)}] * 2
            + [{"device_name": "Tesla T4", "compute_capability": (7, 5)}],
            [("NVIDIA L4", 2**34), ("NVIDIA L4", 2**34), ("Tesla T4", None)],
            ["2 GPUs: NVIDIA L4, 16.0 GiB, compute capability 8.9 each", "GPU: Tesla T4, compute capability 7.5"],
        ),
        ([{}], [], ["GPU: of unknown model"]),
    ],
)
def test_gpus_are_named_with_what_is_known_of_them(monkeypatch, gpus, memories, lines):
    _stand_ins(monkeypatch, gpus, memories)
    assert devices.describe_devices()[:-1] == lines
    assert devices.count_devices() == len(gpus)


def test_a_cpu_is_named_and_a_gpu_that_lies_idle(monkeypatch):
    _stand_ins(monkeypatch, [])
    for flags, fast in (({"avx512_bf16"}, "fast at bfloat16"), (set(), "not known to be fast at bfloat16")):
        monkeypatch.setattr(devices, "cpu_flags", lambda flags=flags: flags)
        assert devices.describe_devices() == [f"CPU: A CPU, 3 cores, 8.0 GiB, {fast}", "A GPU lies idle."]
    assert devices.count_devices() == 1


@pytest.mark.parametrize(
    ("flags", "precision"),
    [({"amx_bf16", "sse"}, "bfloat16"), ({"avx512_bf16"}, "bfloat16"), ({"avx512f"}, "float32"), (set(), "float32")],
)
def test_cpu_precision_by_what_it_has(monkeypatch, flags, precision):
    monkeypatch.setattr(devices, "cpu_flags", lambda: flags)
    monkeypatch.setattr(devices.tf.config, "list_physical_devices", lambda kind: [])
    assert devices.fast_precision() == precision


@pytest.mark.parametrize(
    ("capabilities", "precision"), [([(9, 0)], "bfloat16"), ([(8, 0), (7, 5)], "float32"), ([(7, 0)], "float32")]
)
def test_gpu_precision_by_the_oldest(monkeypatch, capabilities, precision):
    monkeypatch.setattr(devices.tf.config, "list_physical_devices", lambda kind: range(len(capabilities)))
    details = lambda gpu: {"compute_capability": capabilities[gpu]}  # noqa: E731
    monkeypatch.setattr(devices.tf.config.experimental, "get_device_details", details)
    assert devices.fast_precision() == precision


def test_the_strategy_spans_all_cpu_devices_where_there_is_no_gpu():
    if devices.tf.config.list_physical_devices("GPU"):
        pytest.skip("this machine has a GPU")
    assert devices.make_strategy().num_replicas_in_sync == 2  # conftest makes two
