"""The standard PyTorch pix2pix (junyanz/pytorch-CycleGAN-and-pix2pix) and its step, for comparisons. Needs torch.

Written after `models/networks.py` and `models/pix2pix_model.py` of that repository: U-Net of 8 halvings, 64 filters,
batch norm, dropout in three blocks; PatchGAN of 3 layers; BCE with logits, L1 times 100; Adam 2e-4, beta1 0.5.
"""

import contextlib
import itertools

import torch
from torch import nn


def build_generator(size: int = 256, channels: int = 3, filters: int = 64) -> nn.Module:
    depth = size.bit_length() - 1
    block = None
    for i in reversed(range(depth)):
        inner = filters * min(2**i, 8)
        outer = channels if i == 0 else filters * min(2 ** (i - 1), 8)
        block = _Block(
            outer, inner, block, innermost=i == depth - 1, outermost=i == 0, dropout=depth - 4 <= i < depth - 1
        )
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
