"""The standard PyTorch pix2pix (junyanz/pytorch-CycleGAN-and-pix2pix) and its step, for comparisons. Needs torch.

    python benchmarks/pytorch_pix2pix.py --data_dir=DATA --direction=BtoA --output=OUT --images=4000,8000

trains it at batch 1 on composites of two panels, resized to 286/256 of the size, cropped and mirrored, and writes its
pictures of val/ and test/ to OUT/IMAGES/MODE/SPLIT: in mode `train` (batch statistics and dropout, as its users test
it) and `eval`. Stopped and run again it goes on from the last thousand images. Images are resized as by p2p_keras.

Written after `models/networks.py` and `models/pix2pix_model.py` of that repository: U-Net of 8 halvings, 64 filters,
batch norm, dropout in three blocks (at 128 of 7 halvings and in two, as its `unet_128`); PatchGAN of 3 layers; BCE with
logits, L1 times 100; Adam 2e-4, beta1 0.5.
"""

import argparse
import contextlib
import itertools
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn


def build_generator(size: int = 256, channels: int = 3, filters: int = 64) -> nn.Module:
    depth = size.bit_length() - 1
    block = None
    for i in reversed(range(depth)):
        inner = filters * min(2**i, 8)
        outer = channels if i == 0 else filters * min(2 ** (i - 1), 8)
        block = _Block(outer, inner, block, innermost=i == depth - 1, outermost=i == 0, dropout=4 <= i < depth - 1)
    return block


class _Block(nn.Module):
    def __init__(self, outer, inner, inside, innermost, outermost, dropout):
        super().__init__()
        down = nn.Conv2d(outer, inner, 4, 2, 1, bias=False)
        if outermost:
            up = nn.ConvTranspose2d(inner * 2, outer, 4, 2, 1)
            parts = [down, inside, nn.ReLU(True), up, nn.Tanh()]
        elif innermost:
            up = nn.ConvTranspose2d(inner, outer, 4, 2, 1, bias=False)
            parts = [nn.LeakyReLU(0.2, True), down, nn.ReLU(True), up, nn.BatchNorm2d(outer)]
        else:
            up = nn.ConvTranspose2d(inner * 2, outer, 4, 2, 1, bias=False)
            parts = [nn.LeakyReLU(0.2, True), down, nn.BatchNorm2d(inner), inside, nn.ReLU(True), up]
            parts += [nn.BatchNorm2d(outer)] + ([nn.Dropout(0.5)] if dropout else [])
        self.model, self.outermost = nn.Sequential(*parts), outermost

    def forward(self, x):
        return self.model(x) if self.outermost else torch.cat([x, self.model(x)], 1)


def build_discriminator(channels: int = 6, filters: int = 64) -> nn.Module:
    layers = [nn.Conv2d(channels, filters, 4, 2, 1), nn.LeakyReLU(0.2, True)]
    widths = [filters * min(2**i, 8) for i in range(4)]
    for i, (before, after) in enumerate(itertools.pairwise(widths)):
        stride = 2 if i < 2 else 1
        layers += [nn.Conv2d(before, after, 4, stride, 1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(0.2, True)]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, 1, 1))


def initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)


class Trainer:
    """Both networks and their optimizers."""

    def __init__(self, size=256, dtype=torch.float32, channels_last=False, device="cpu", learning_rate=2e-4):
        self.device, self.dtype = torch.device(device), dtype
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.generator, self.discriminator = build_generator(size), build_discriminator()
        for network in (self.generator, self.discriminator):
            initialise(network)
            network.to(self.device, memory_format=self.format)
        adam = {"lr": learning_rate, "betas": (0.5, 0.999), "fused": True}
        self.generator_optimizer = torch.optim.Adam(self.generator.parameters(), **adam)
        self.discriminator_optimizer = torch.optim.Adam(self.discriminator.parameters(), **adam)

    def autocast(self):
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def generate(self, image):
        """What the generator makes of images, in the mode that it is in."""
        with torch.inference_mode(), self.autocast():
            return self.generator(image).float().cpu()

    def step(self, image, target):
        """One update of the discriminator, then one of the generator, as `optimize_parameters`."""
        cross_entropy = nn.functional.binary_cross_entropy_with_logits
        image, target = (x.to(self.device, memory_format=self.format) for x in (image, target))
        with self.autocast():
            generated = self.generator(image)
            self.discriminator.requires_grad_(True)
            self.discriminator_optimizer.zero_grad()
            fake = self.discriminator(torch.cat([image, generated.detach()], 1))
            real = self.discriminator(torch.cat([image, target], 1))
            loss = cross_entropy(fake, torch.zeros_like(fake)) + cross_entropy(real, torch.ones_like(real))
        (0.5 * loss).backward()
        self.discriminator_optimizer.step()
        with self.autocast():
            self.discriminator.requires_grad_(False)
            self.generator_optimizer.zero_grad()
            fake = self.discriminator(torch.cat([image, generated], 1))
            gan, l1 = cross_entropy(fake, torch.ones_like(fake)), nn.functional.l1_loss(generated, target)
        (gan + 100 * l1).backward()
        self.generator_optimizer.step()
        return gan.detach(), l1.detach(), loss.detach() / 2


SAVE_EVERY = 1000  # images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--direction", default="AtoB", choices=("AtoB", "BtoA"))
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--images", default="4000", help="After which pictures are written, commas between.")
    parser.add_argument("--image_size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    size, marks = arguments.image_size, sorted(map(int, arguments.images.split(",")))
    trainer = Trainer(size, getattr(torch, arguments.precision), channels_last=arguments.precision == "bfloat16")
    state, secs, done = arguments.output / "state.pt", {}, 0
    parts = (trainer.generator, trainer.discriminator, trainer.generator_optimizer, trainer.discriminator_optimizer)
    arguments.output.mkdir(parents=True, exist_ok=True)
    took = 0.0
    settings = {name: str(getattr(arguments, name)) for name in ("direction", "image_size", "seed", "precision")}
    settings["data_dir"] = str(arguments.data_dir.absolute())
    if state.exists():
        saved = torch.load(state, weights_only=True)
        done, took, secs = saved["done"], saved["took"], saved["secs"]
        if saved.get("settings", settings) != settings:
            parser.error(f"{arguments.output} was begun with {saved['settings']}. Received: {settings}")
        if missed := [mark for mark in marks if mark <= done and str(mark) not in secs]:
            parser.error(f"{arguments.output} is at {done} images, past {missed}. Take another --output")
        torch.set_rng_state(saved["rng"])
        for part, values in zip(parts, saved["parts"], strict=True):
            part.load_state_dict(values)
    pairs = read_pairs(arguments, "train", size * 286 // 256)
    started = time.monotonic()
    while done < marks[-1]:
        epoch, place = divmod(done, len(pairs))
        order = np.random.RandomState([arguments.seed, epoch]).permutation(len(pairs))
        draw = np.random.RandomState([arguments.seed, epoch, place, 1])
        image, target = jitter(pairs[order[place]][1:], size, draw)
        losses = trainer.step(image, target)
        done += 1
        if done % SAVE_EVERY == 0 or done in marks:
            took += time.monotonic() - started
            gan, l1, discriminator = (loss.item() for loss in losses)
            print(
                f"{done} images, {took:.0f} s: GAN {gan:.2f} L1 {l1:.3f} discriminator {discriminator:.2f}", flush=True
            )
            if done in marks:
                secs[str(done)] = took
                write_pictures(arguments, trainer, arguments.output / str(done), size)
            values = {"done": done, "took": took, "secs": secs, "rng": torch.get_rng_state(), "settings": settings}
            torch.save({**values, "parts": [part.state_dict() for part in parts]}, state.with_suffix(".part"))
            os.replace(state.with_suffix(".part"), state)
            started = time.monotonic()
    (arguments.output / "secs.json").write_text(json.dumps(secs))


def read_pairs(arguments: argparse.Namespace, split: str, size: int) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Name, input and target (size, size, 3) uint8 of each pair."""
    pairs = []
    for path in sorted((arguments.data_dir / split).iterdir()):
        both = Image.open(path).convert("RGB")
        half = both.width // 2
        sides = [both.crop((left, 0, left + half, both.height)) for left in (0, half)]
        # As p2p_keras, so that it trains on what it is scored by; theirs is bicubic, of facades at 128 2.3 levels away.
        sides = [np.asarray(side.resize((size, size), Image.Resampling.BILINEAR)) for side in sides]
        pairs.append((path.stem, *(sides if arguments.direction == "AtoB" else sides[::-1])))
    return pairs


def jitter(images: tuple, size: int, draw: np.random.RandomState) -> list[torch.Tensor]:
    """The same random crop and mirroring of each, float32 (1, 3, size, size) in [-1, 1]."""
    top, left = draw.randint(0, images[0].shape[0] - size + 1, 2)
    step = draw.choice([-1, 1])
    crops = [image[top : top + size, left : left + size][:, ::step] for image in images]
    return [to_tensor(crop) for crop in crops]


def to_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.transpose(2, 0, 1)[None] / np.float32(127.5) - 1)


def write_pictures(arguments: argparse.Namespace, trainer: Trainer, folder: Path, size: int) -> None:
    for split in ("val", "test"):
        if not (arguments.data_dir / split).is_dir():
            continue
        for mode in ("train", "eval"):
            (folder / mode / split).mkdir(parents=True, exist_ok=True)
            # Its moving averages must not learn from the pictures of a test, as test.py's do not outlive it.
            averages = {name: value.clone() for name, value in trainer.generator.named_buffers()}
            trainer.generator.train(mode == "train")
            for name, image, _ in read_pairs(arguments, split, size):
                picture = trainer.generate(to_tensor(image))[0].permute(1, 2, 0).numpy()
                picture = np.clip(np.round((picture + 1) * 127.5), 0, 255).astype(np.uint8)
                Image.fromarray(picture).save(folder / mode / split / f"{name}.png")
            for name, value in trainer.generator.named_buffers():
                value.copy_(averages[name])
            trainer.generator.train()


if __name__ == "__main__":
    main()
