import pytest

from p2p_keras.system import devices


def test_flags_of_a_cpu(tmp_path):
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nflags\t\t: fpu avx2 avx512_bf16 sse\nprocessor\t: 1\n")
    assert devices.cpu_flags(tmp_path / "cpuinfo") == {"fpu", "avx2", "avx512_bf16", "sse"}
    assert devices.cpu_flags(tmp_path / "none") == set()


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
