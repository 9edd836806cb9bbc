"""The same network in PyTorch and here. Where torch is not installed, some numbers that it gave stand for it."""

import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import assert_refused, run_command

from p2p_keras import models
from p2p_keras.errors import UserError
from p2p_keras.pytorch import read
from p2p_keras.workdir.folder import read_config

try:
    import torch
except ImportError:
    torch = None
needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch is not installed (the extra torch)")


def _parts(halvings: int) -> list[dict[str, str]]:
    """Names of the parts of each block, outermost first, as PyTorch makes them of the nesting of its modules."""
    parts, place = [], "model.model"
    for block in range(halvings):
        if block == 0:
            numbers = {"down": 0, "inside": 1, "up": 3}
        elif block == halvings - 1:
            numbers = {"down": 1, "up": 3, "up_norm": 4}
        else:
            numbers = {"down": 1, "down_norm": 2, "inside": 3, "up": 5, "up_norm": 6}
        parts.append({part: f"{place}.{number}" for part, number in numbers.items()})
        place = f"{place}.{numbers.get('inside')}.model"
    return parts


def _draw_state(halvings: int, norm: str, filters: int, channels=(3, 3), biases: bool = False) -> dict[str, np.ndarray]:
    """A state dict whose numbers are lively: a mistake in any of them could show in every pixel."""
    rng, state = np.random.RandomState(0), {}
    widths = [filters * min(2**i, 8) for i in range(halvings)]

    def draw_norm(name, width):
        if norm == "batch":
            state[f"{name}.weight"], state[f"{name}.bias"] = rng.uniform(0.5, 2, width), rng.normal(0, 0.5, width)
            state[f"{name}.running_mean"] = rng.normal(0, 0.3, width)
            state[f"{name}.running_var"] = rng.uniform(0.5, 2, width)

    for block, parts in enumerate(_parts(halvings)):
        width, innermost = widths[block], block == halvings - 1
        above_in, above_out = channels if block == 0 else (widths[block - 1],) * 2
        joined = width if innermost else 2 * width
        state[f"{parts['down']}.weight"] = rng.normal(0, 1 / np.sqrt(8 * above_in), (width, above_in, 4, 4))
        state[f"{parts['up']}.weight"] = rng.normal(0, 1 / np.sqrt(4 * joined), (joined, above_out, 4, 4))
        for part, count in (("down", width), ("up", above_out)):
            if norm == "instance" or biases or (block, part) == (0, "up"):
                state[f"{parts[part]}.bias"] = rng.normal(0, 0.3, count)
        if "down_norm" in parts:
            draw_norm(parts["down_norm"], width)
        if "up_norm" in parts:
            draw_norm(parts["up_norm"], above_out)
    return {name: value.astype(np.float32) for name, value in state.items()}


def _draw_image(size: int, channels: int = 3) -> np.ndarray:
    """Smooth colours and some noise, (1, size, size, channels) in [-1, 1]."""
    rng = np.random.RandomState(1)
    rows, columns = np.mgrid[:size, :size] / size
    waves = [np.sin(2 * np.pi * (rows * (c + 1) + columns * (3 - c))) for c in range(channels)]
    noise = rng.uniform(-0.3, 0.3, (size, size, channels))
    return (0.7 * np.stack(waves, axis=-1) + noise).astype(np.float32)[None]


def _generate(network: read.Network, image: np.ndarray, statistics: str) -> np.ndarray:
    """What this project's generator makes of an image with the weights that were read."""
    generator = models.build_generator(
        2**network.halvings,
        network.input_channels,
        network.output_channels,
        network.base_filters,
        per_image_statistics=statistics == "per_image",
    )
    with_weights = [layer.name for layer in generator.layers if layer.weights]
    assert sorted(network.layers) == sorted(with_weights)
    for name, weights in network.layers.items():
        generator.get_layer(name).set_weights(weights)
    return generator([tf.constant(image), None], training=False).numpy()


def _from_arrays(monkeypatch, tmp_path, state) -> read.Network:
    """Reads a state dict past torch, which may not be there."""
    monkeypatch.setattr(read, "_load", lambda path: state)
    return read.read_network(tmp_path / "latest_net_G.pth")


# Four pixels on the diagonal of what PyTorch 2.14 makes of _draw_state(5, norm, 2) and _draw_image(32).
GOLDEN = {
    ("batch", "per_image"): [
        [-0.07801, 0.33138, -0.18613],
        [-0.22189, -0.26218, 0.13202],
        [0.73907, 0.71955, 0.61031],
        [0.26985, 0.47757, -0.30148],
    ],
    ("batch", "moving"): [
        [-0.00676, 0.35047, -0.18135],
        [-0.13814, 0.40960, 0.02741],
        [0.60751, 0.72893, 0.09683],
        [0.21576, 0.43174, -0.23056],
    ],
    ("instance", "per_image"): [
        [-0.68830, -0.30198, 0.55710],
        [-0.42426, 0.39104, 0.53070],
        [0.79002, 0.23030, 0.73207],
        [-0.23438, 0.00070, 0.53670],
    ],
}


@pytest.mark.parametrize(("norm", "statistics"), GOLDEN)
def test_it_draws_what_pytorch_drew(norm, statistics, tmp_path, monkeypatch):
    """To 1e-4: sums of floats in another order, and the golden numbers have five decimals."""
    network = _from_arrays(monkeypatch, tmp_path, _draw_state(5, norm, 2))
    assert (network.name, network.norm, network.base_filters) == ("unet_32", norm, 2)
    picture = _generate(network, _draw_image(32), statistics)
    np.testing.assert_allclose(picture[0, [0, 9, 18, 31], [0, 9, 18, 31]], GOLDEN[norm, statistics], atol=1e-4)


def _torch_network(halvings: int, norm: str, filters: int, channels=(3, 3), biases: bool = False):
    """`UnetGenerator` by its published structure, with dropout, and its names."""
    nn = torch.nn
    use_bias, make_norm = norm == "instance" or biases, nn.BatchNorm2d if norm == "batch" else nn.InstanceNorm2d

    class Block(nn.Module):
        def __init__(self, outer, inner, given=None, inside=None, outermost=False, innermost=False, dropout=False):
            super().__init__()
            self.outermost = outermost
            down = nn.Conv2d(given or outer, inner, 4, 2, 1, bias=use_bias)
            up = nn.ConvTranspose2d(inner if innermost else 2 * inner, outer, 4, 2, 1, bias=use_bias or outermost)
            before, after = nn.LeakyReLU(0.2, True), nn.ReLU(True)
            if outermost:
                parts = [down, inside, after, up, nn.Tanh()]
            elif innermost:
                parts = [before, down, after, up, make_norm(outer)]
            else:
                parts = [before, down, make_norm(inner), inside, after, up, make_norm(outer)]
            self.model = nn.Sequential(*parts, *([nn.Dropout(0.5)] if dropout else []))

        def forward(self, x):
            return self.model(x) if self.outermost else torch.cat([x, self.model(x)], 1)

    block = Block(8 * filters, 8 * filters, innermost=True)
    for _ in range(halvings - 5):
        block = Block(8 * filters, 8 * filters, inside=block, dropout=True)
    for outer in (4, 2, 1):
        block = Block(outer * filters, 2 * outer * filters, inside=block)
    network = nn.Module()
    network.model = Block(channels[1], filters, channels[0], block, outermost=True)
    network.forward = network.model.forward
    return network


def _torch_picture(network, state: dict[str, np.ndarray], image: np.ndarray, training: bool) -> np.ndarray:
    """In train mode as test.py runs it, but without the dropout; or in eval mode, as test.py --eval."""
    missing = network.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()}, strict=False)
    assert not missing.unexpected_keys
    assert all(name.endswith("num_batches_tracked") for name in missing.missing_keys)
    network.train(training)
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.eval()
    with torch.no_grad():
        return network(torch.from_numpy(image.transpose(0, 3, 1, 2))).numpy().transpose(0, 2, 3, 1)


@needs_torch
@pytest.mark.parametrize(("norm", "statistics"), GOLDEN)
def test_the_golden_numbers_are_pytorchs(norm, statistics):
    state = _draw_state(5, norm, 2)
    picture = _torch_picture(_torch_network(5, norm, 2), state, _draw_image(32), statistics == "per_image")
    found = picture[0, [0, 9, 18, 31], [0, 9, 18, 31]]
    np.testing.assert_allclose(found, GOLDEN[norm, statistics], atol=2e-5, err_msg=str(found.round(5).tolist()))


@needs_torch
@pytest.mark.parametrize(
    ("halvings", "norm", "channels", "biases"),
    [
        (7, "batch", (3, 3), False),
        (8, "batch", (3, 3), False),
        (7, "instance", (3, 3), False),
        (8, "instance", (3, 3), False),
        (7, "batch", (1, 4), True),  # with biases before the norm, as files of others may have
    ],
)
def test_the_same_network_in_pytorch_draws_the_same(halvings, norm, channels, biases, tmp_path):
    """To 1e-4: float32 sums in another order. With the halves of one kernel exchanged it is off by far more."""
    state, image = _draw_state(halvings, norm, 8, channels, biases), _draw_image(2**halvings, channels[0])
    theirs = _torch_network(halvings, norm, 8, channels, biases)
    # The second one loads the state once more, without what the first has averaged.
    pictures = {training: _torch_picture(theirs, state, image, training) for training in (True, False)}
    assert np.std(pictures[True]) > 0.1
    torch.save(theirs.state_dict(), tmp_path / "latest_net_G.pth")
    network = read.read_network(tmp_path / "latest_net_G.pth")
    assert (network.name, network.norm) == (f"unet_{2**halvings}", norm)
    assert (network.input_channels, network.output_channels, network.base_filters) == (*channels, 8)
    np.testing.assert_allclose(_generate(network, image, "per_image"), pictures[True], atol=1e-4)
    if norm == "batch":
        np.testing.assert_allclose(_generate(network, image, "moving"), pictures[False], atol=1e-4)
        assert np.abs(pictures[True] - pictures[False]).max() > 0.1  # the two modes do differ


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_a_prefix_before_every_name_is_taken_off(prefix, tmp_path, monkeypatch):
    state = _draw_state(5, "batch", 1)
    plain = _from_arrays(monkeypatch, tmp_path, state)
    counted = {**state, "model.model.1.model.2.num_batches_tracked": np.array(5)}
    prefixed = _from_arrays(monkeypatch, tmp_path, {prefix + name: value for name, value in counted.items()})
    for name, weights in plain.layers.items():
        for one, other in zip(weights, prefixed.layers[name], strict=True):
            np.testing.assert_array_equal(one, other)


def test_instance_norms_of_before_pytorch_0_4_kept_averages_that_nobody_used(tmp_path, monkeypatch):
    state = _draw_state(5, "instance", 1)
    old = {**state, "model.model.1.model.2.running_mean": np.ones(2), "model.model.1.model.2.running_var": np.ones(2)}
    network = _from_arrays(monkeypatch, tmp_path, old)
    assert network.norm == "instance"
    np.testing.assert_array_equal(network.layers["down2_norm"], [[1, 1], [0, 0], [0, 0], [1, 1]])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: {n: v for n, v in s.items() if "norm" not in n and v.ndim == 4}, "without norm"),
        (lambda s: {f"x{n}": v for n, v in s.items()}, r"holds \d+ tensors, the first called xmodel\.model"),
        (lambda s: {}, "holds 0 tensors"),
        (lambda s: {"model.0.weight": np.zeros((64, 6, 4, 4))}, "holds a discriminator"),
        (lambda s: {"model.1.weight": np.zeros(1), "model.10.conv_block.1.weight": np.zeros(1)}, "a ResNet generator"),
        (
            lambda s: {n: v for n, v in s.items() if "1.model.3" not in n},
            "holds a U-Net of 2 halvings; here are 5 to 9",
        ),
        (lambda s: {**s, "model.model.1.model.9.weight": np.zeros(1)}, "model.9.weight is more than it has"),
        (lambda s: {n: v for n, v in s.items() if n != "model.model.3.weight"}, "of other shapes"),
        (
            lambda s: {n: v for n, v in s.items() if n != "model.model.3.bias"},
            r"layout: model\.model\.3\.bias is missing",
        ),
        (
            lambda s: {**s, "model.model.1.model.1.weight": np.zeros((8, 2, 3, 3))},
            r"widths: model\.model\.1\.model\.1\.weight is \(8, 2, 3, 3\), not \(4, 2, 4, 4\)",
        ),
        (lambda s: {**s, "model.model.3.bias": np.full(3, np.nan)}, r"not finite, in model\.model\.3\.bias"),
    ],
)
def test_other_networks_are_refused_by_what_was_found(change, words, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=words) as raised:
        _from_arrays(monkeypatch, tmp_path, change(_draw_state(5, "batch", 2)))
    assert str(raised.value).startswith("--weights is a U-Net generator (--netG unet_256 or unet_128)")
    assert "\n" not in str(raised.value)


def test_without_torch_it_says_how_to_get_it(tmp_path, monkeypatch):
    (tmp_path / "latest_net_G.pth").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"not installed\. .*pip install 'torch>=2.6'"):
        read.read_network(tmp_path / "latest_net_G.pth")
    for name, words in (("none.pth", "none.pth is not there"), ("", "is a folder")):
        with pytest.raises(UserError, match=words):
            read.read_network(tmp_path / name)


class _Runs:
    """What a pickle of it does when it is read: it makes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@needs_torch
def test_files_that_are_no_state_dict_are_refused_and_never_run(tmp_path):
    ran = tmp_path / "ran"
    torch.save(torch.nn.Conv2d(3, 4, 4), tmp_path / "module.pth")
    torch.save({"weight": _Runs(ran)}, tmp_path / "runs.pth")
    torch.save(_Runs(ran), tmp_path / "runs_old.pth", _use_new_zipfile_serialization=False)
    torch.save({"epoch": 3, "generator": {"a": torch.zeros(1)}}, tmp_path / "nested.pth")
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    (tmp_path / "notes.txt").write_text("weights")
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "tensor.pth").read_bytes()[:-40])
    keras_file = tmp_path / "model.keras"
    models.build_generator(8, base_filters=1).save(keras_file)
    for name, words in {
        "module.pth": r"of Python, torch\.nn\.modules\.conv\.Conv2d.*torch\.save\(network\.state_dict\(\)",
        "runs.pth": "holds objects of Python",
        "runs_old.pth": "holds objects of Python",
        "nested.pth": "holds no dict of tensors, but epoch, generator",
        "tensor.pth": "holds no dict of tensors, but Tensor",
        "notes.txt": r"is no whole file of torch\.save",
        "empty.pth": r"is no whole file of torch\.save",
        "cut.pth": r"is no whole file of torch\.save",
        "model.keras": r"is no whole file of torch\.save",
    }.items():
        with pytest.raises(UserError, match=words):
            read.read_network(tmp_path / name)
    assert not ran.exists()
    torch.load(tmp_path / "runs.pth", weights_only=False)
    assert ran.exists()  # it would have


@needs_torch
def test_parameters_are_tensors_and_tensors_of_other_kinds_are_refused(tmp_path):
    state = {name: torch.from_numpy(value) for name, value in _draw_state(5, "batch", 2).items()}
    torch.save({name: torch.nn.Parameter(value) for name, value in state.items()}, tmp_path / "parameters.pth")
    assert read.read_network(tmp_path / "parameters.pth").name == "unet_32"
    name = "model.model.0.weight"
    for other in (state[name].to_sparse(), state[name].to("meta")):
        torch.save({**state, name: other}, tmp_path / "other.pth")
        with pytest.raises(UserError, match="holds tensors that are sparse, quantized or without numbers"):
            read.read_network(tmp_path / "other.pth")


@needs_torch
def test_the_command_makes_a_run_once(tmp_path):
    weights, output = tmp_path / "latest_net_G.pth", tmp_path / "runs" / "imported"
    torch.save({name: torch.from_numpy(value) for name, value in _draw_state(5, "instance", 2).items()}, weights)
    flags = [f"--weights={weights}", f"--output={output}"]
    assert_refused(run_command("import_", *flags, "--statistics=moving"), "--statistics=moving is for batch norm")
    assert_refused(run_command("import_", *flags, "--direction=a2s"), "needs a panel named aerial")
    assert not output.parent.exists()
    done = run_command("import_", *flags, "--panels=street,aerial", "--direction=a2s")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"{weights}: unet_32, instance norm, 2 filters, 3 -> 3 channels",
        f"{output}: a run for p2p-translate, p2p-export, and p2p-eval with --data_dir",
    ]
    config, record = read_config(output / "config.json")
    assert (str(config.image_size), config.direction, config.statistics) == ("32x32", "a2s", "per_image")
    assert (record["imported"]["network"], record["imported"]["norm"]) == ("unet_32", "instance")
    assert_refused(run_command("import_", *flags), "--output must be a new folder", "is there already")


@needs_torch
def test_a_view_of_one_number_is_no_tensor_of_any_size(tmp_path):
    """1.6 kB on disk, which were 19 GB of memory."""
    torch.save({"model.model.0.weight": torch.zeros(1).expand(20_000, 1_000)}, tmp_path / "x.pth")
    with pytest.raises(UserError, match="tensors that are larger than the file"):
        read.read_network(tmp_path / "x.pth")


def test_a_file_that_was_compressed_is_refused_unread(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as parts:
        parts.writestr("archive/data/0", bytes(1_000_000))
    with pytest.raises(UserError, match="larger in memory than it is on disk"):
        read.read_network(tmp_path / "x.pth")
