"""Reads the generator that junyanz/pytorch-CycleGAN-and-pix2pix saves as `latest_net_G.pth`. No TensorFlow.

The layout is that of `UnetGenerator` in its `models/networks.py`: a block for each halving, each within the one around
it, so that the innermost of unet_256 is `model.model.1.model.3.model.3.model.3.model.3.model.3.model.3.model`. Where it
differs from `models.build_generator`, and what is done:

- Torch keeps kernels as (out, in, 4, 4), transposed ones as (in, out, 4, 4); Keras as (4, 4, in, out) and (4, 4, out,
  in). One permutation turns either around.
- It joins the skip connection before what comes from below, here it comes after: the halves of the kernels that read
  both are exchanged.
- Its LeakyReLU works in place, so the skip connection carries activated numbers. The ReLU that follows makes the same
  of either.
- With batch norm it has no biases but in the last layer. Here the first and the innermost convolution have one, which
  becomes 0. A bias before a batch norm, as files of others may have, is taken off the moving mean.
- Its instance norm has no weights, and removes the biases before it. It is a batch norm by each image's own statistics
  that neither scales nor shifts.
- Dropout leaves nothing in the file. There it sits in the three blocks around the innermost one (of unet_128 two); the
  noise here begins with the innermost. Only `--noise` and `--samples` differ by that.
"""

import re
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from p2p_keras.errors import UserError

HALVINGS = range(5, 10)  # unet_32 to unet_512; that repository itself has unet_128 and unet_256


class Network(NamedTuple):
    """A generator as its file describes it."""

    halvings: int
    input_channels: int
    output_channels: int
    base_filters: int
    norm: str  # `batch` or `instance`
    layers: dict[str, list[np.ndarray]]  # what `set_weights` takes, float32, by the names in `models.build_generator`

    @property
    def name(self) -> str:
        """What `--netG` calls it."""
        return f"unet_{2**self.halvings}"


class _Block(NamedTuple):
    """What the parts of a block are called; the outermost has no norms, the innermost one."""

    down: str
    down_norm: str | None
    up: str
    up_norm: str | None


def read_network(path: Path) -> Network:
    """Reads a generator's file, without running anything that is in it.

    Raises:
        UserError: PyTorch is not installed, or the file is no such generator's; says what was found.
    """
    state = _without_prefix(_load(path))
    for name, value in state.items():
        if not np.all(np.isfinite(value)):
            raise _refusal(path, f"holds numbers that are not finite, in {name}")
    halvings = _halvings(state)
    if halvings not in HALVINGS:
        raise _refusal(path, _what_else(state, halvings))
    blocks = _blocks(halvings)
    norm = _norm(state, blocks)
    if norm is None:
        raise _refusal(path, "holds one without norm (--norm none), which has no counterpart here")
    first, last = state[f"{blocks[0].down}.weight"], state.get(f"{blocks[0].up}.weight", np.zeros(0))
    if first.ndim != 4 or last.ndim != 4:
        raise _refusal(path, f"holds a {blocks[0].down}.weight and {blocks[0].up}.weight of other shapes")
    network = Network(halvings, first.shape[1], last.shape[1], first.shape[0], norm, {})
    _check(state, _shapes(network, blocks), path)
    return network._replace(layers=_layers(state, network, blocks))


def _load(path: Path) -> dict[str, np.ndarray]:
    """Names and tensors as float32, by torch's reader that builds nothing but tensors and containers."""
    if not path.is_file():
        raise _refusal(path, "is a folder" if path.is_dir() else "is not there")
    size = path.stat().st_size
    if _unpacked_bytes(path) > size:  # torch.save compresses nothing
        raise _refusal(path, "would be larger in memory than it is on disk")
    torch = _torch()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise _refusal(path, f"cannot be read ({error.strerror or error})") from error
    except Exception as error:  # whatever torch makes of a file that it did not write
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named:
            raise _refusal(
                path,
                f"holds objects of Python, {named[1]}, and what it says would be run. In PyTorch, write its weights "
                "alone: torch.save(network.state_dict(), FILE)",
            ) from error
        raise _refusal(path, "is no whole file of torch.save") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        inside = f"{', '.join(map(str, list(state)[:3]))}" if isinstance(state, dict) else type(state).__name__
        raise _refusal(path, f"holds no dict of tensors, but {inside}. Save the generator's state_dict() alone")
    # A tensor may be a view in which a few numbers stand for any number of them.
    if sum(value.numel() * value.element_size() for value in state.values()) > size:
        raise _refusal(path, "holds tensors that are larger than the file")
    try:
        return {str(name): value.detach().float().numpy() for name, value in state.items()}
    except (RuntimeError, TypeError, NotImplementedError) as error:  # as they differ from torch to torch
        raise _refusal(path, "holds tensors that are sparse, quantized or without numbers") from error


def _unpacked_bytes(path: Path) -> int:
    """What the parts of a file are together, if it is a zip, as those of torch.save are; else 0."""
    try:
        with zipfile.ZipFile(path) as parts:
            return sum(part.file_size for part in parts.infolist())
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return 0  # which torch says in its own way


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise UserError(
            "PyTorch reads the file, and it is not installed. Install it, the one for CPUs will do: "
            f"{sys.executable} -m pip install 'torch>=2.6'"
        ) from error
    if torch.__version__ < "2.6":  # before, a file could run what it liked even so: CVE-2025-32434
        raise UserError(f"PyTorch 2.6 or newer reads files safely. Received: {torch.__version__}. Install another one.")
    return torch


def _without_prefix(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Without what DataParallel and torch.compile put before every name, and without what no network computes with."""
    kept = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    for prefix in ("module.", "_orig_mod.", "module."):  # either may be around the other
        if kept and all(name.startswith(prefix) for name in kept):
            kept = {name.removeprefix(prefix): value for name, value in kept.items()}
    return kept


def _halvings(state: dict[str, np.ndarray]) -> int:
    """How many blocks there are within each other; 0 if there is not even the outermost."""
    place, count = "model.model", int("model.model.0.weight" in state)
    while count and f"{place}.{_inside(count)}.model.1.weight" in state:
        place, count = f"{place}.{_inside(count)}.model", count + 1
    return count


def _inside(number: int) -> int:
    """Which part of the block of that number, counted from 1 at the outermost, is the next one."""
    return 1 if number == 1 else 3


def _blocks(halvings: int) -> list[_Block]:
    """From the outermost to the innermost."""
    place = "model.model"
    blocks = [_Block(f"{place}.0", None, f"{place}.3", None)]
    for number in range(1, halvings):
        place = f"{place}.{_inside(number)}.model"
        if number < halvings - 1:
            blocks.append(_Block(f"{place}.1", f"{place}.2", f"{place}.5", f"{place}.6"))
        else:
            blocks.append(_Block(f"{place}.1", None, f"{place}.3", f"{place}.4"))
    return blocks


def _norm(state: dict[str, np.ndarray], blocks: list[_Block]) -> str | None:
    """Told by what it leaves in the file; None if there is no norm."""
    if f"{blocks[1].down_norm}.weight" in state:
        return "batch"
    return "instance" if f"{blocks[1].down}.bias" in state else None


def _shapes(network: Network, blocks: list[_Block]) -> dict[str, tuple[int, ...]]:
    """What has to be in the file."""
    shapes, filters = {f"{blocks[0].up}.bias": (network.output_channels,)}, _filters(network)
    for i, block in enumerate(blocks):
        above = (network.input_channels, network.output_channels) if i == 0 else (filters[i - 1],) * 2
        joined = filters[i] * (1 if i == len(blocks) - 1 else 2)
        shapes[f"{block.down}.weight"] = (filters[i], above[0], 4, 4)
        shapes[f"{block.up}.weight"] = (joined, above[1], 4, 4)
        if network.norm == "batch":
            for norm, channels in ((block.down_norm, filters[i]), (block.up_norm, above[1])):
                names = ("weight", "bias", "running_mean", "running_var") if norm else ()
                shapes.update({f"{norm}.{name}": (channels,) for name in names})
        else:
            shapes[f"{block.down}.bias"] = (filters[i],)
            shapes[f"{block.up}.bias"] = (above[1],)
    return shapes


def _filters(network: Network) -> list[int]:
    return [network.base_filters * min(2**i, 8) for i in range(network.halvings)]


def _check(state: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]], path: Path) -> None:
    for name, shape in shapes.items():
        if name not in state:
            raise _refusal(path, f"holds a U-Net of another layout: {name} is missing")
        if state[name].shape != shape:
            raise _refusal(path, f"holds a U-Net of other widths: {name} is {state[name].shape}, not {shape}")
    for name in state.keys() - shapes.keys():
        # Biases before a batch norm; what instance norms of PyTorch before 0.4 kept, though they did not use it.
        if not name.endswith((".bias", ".running_mean", ".running_var")):
            raise _refusal(path, f"holds a U-Net of another layout: {name} is more than it has")


def _layers(state: dict[str, np.ndarray], network: Network, blocks: list[_Block]) -> dict[str, list[np.ndarray]]:
    """The weights of every layer of `models.build_generator` that has any."""
    layers, filters = {}, _filters(network)
    for i, block in enumerate(blocks):
        innermost = i == len(blocks) - 1
        kernel = state[f"{block.down}.weight"].transpose(2, 3, 1, 0)
        bias = state.get(f"{block.down}.bias", np.zeros(filters[i], np.float32))
        layers[f"down{i + 1}"] = [kernel] if block.down_norm else [kernel, bias]
        if block.down_norm:
            layers[f"down{i + 1}_norm"] = _norm_weights(state, network.norm, block.down_norm, bias)
        kernel = state[f"{block.up}.weight"].transpose(2, 3, 1, 0)  # (4, 4, out, in)
        if not innermost:
            kernel = np.concatenate([kernel[..., filters[i] :], kernel[..., : filters[i]]], axis=-1)
        bias = state.get(f"{block.up}.bias", np.zeros(kernel.shape[2], np.float32))
        layers[f"up{i}" if i else "output"] = [kernel] if i else [kernel, bias]
        if block.up_norm:
            layers[f"up{i}_norm"] = _norm_weights(state, network.norm, block.up_norm, bias)
    return layers


def _norm_weights(state: dict[str, np.ndarray], norm: str, name: str, bias: np.ndarray) -> list[np.ndarray]:
    """gamma, beta, moving mean and variance of a norm after a convolution with that bias."""
    if norm == "instance":
        return [np.ones_like(bias), np.zeros_like(bias), np.zeros_like(bias), np.ones_like(bias)]
    parts = ("weight", "bias", "running_mean", "running_var")
    gamma, beta, mean, variance = (state[f"{name}.{part}"] for part in parts)
    return [gamma, beta, mean - bias, variance]


def _what_else(state: dict[str, np.ndarray], halvings: int) -> str:
    """What a file is that holds no U-Net of the right depth."""
    if halvings:
        return f"holds a U-Net of {halvings} halvings; here are {HALVINGS[0]} to {HALVINGS[-1]}"
    if any(".conv_block." in name for name in state):
        return "holds a ResNet generator (--netG resnet_6blocks or resnet_9blocks), which has no counterpart here"
    if state.get("model.0.weight", np.zeros(0)).ndim == 4:
        return "holds a discriminator (net_D); the generator is in the file with net_G in its name"
    return f"holds {len(state)} tensors" + (f", the first called {next(iter(state))}" if state else "")


def _refusal(path: Path, found: str) -> UserError:
    return UserError(
        "--weights is a U-Net generator (--netG unet_256 or unet_128) saved by pytorch-CycleGAN-and-pix2pix, as "
        f"latest_net_G.pth. {path} {found}."
    )
