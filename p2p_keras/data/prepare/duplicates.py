"""Pairs of different parts that look alike: what a network is tested on, it should not have been trained on."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from p2p_keras.data.manifest import Entry
from p2p_keras.data.pairs import SPLITS

MAX_BITS = 4  # of 64 in each panel; unrelated images differ in about 32, recompressed ones in 0 to 2
_CHUNK = 32  # pairs compared with all others at a time: 55,000 x 32 x 8 bytes are 14 MB


class Alike(NamedTuple):
    """A pair, and the one of an earlier part that looks most like it."""

    pair: str
    like: str
    bits: int  # in which their hashes differ, of the panel that differs most


def near_duplicates(entries: Sequence[Entry]) -> list[Alike]:
    """For each pair of `val` and `test`: the pair of an earlier part (train before val before test) it nearly equals.

    Two pairs nearly equal if in every panel at most `MAX_BITS` of the 64 bits of the perceptual hash differ.
    """
    parts = {split: [entry for entry in entries if entry.split == split] for split in SPLITS}
    found = []
    for number, split in enumerate(SPLITS[1:], start=1):
        earlier = [entry for before in SPLITS[:number] for entry in parts[before]]
        if earlier and parts[split]:
            found += _compare(parts[split], earlier)
    return found


def _compare(later: list[Entry], earlier: list[Entry]) -> list[Alike]:
    found, known = [], _hashes(earlier)
    for first in range(0, len(later), _CHUNK):
        chunk = _hashes(later[first : first + _CHUNK])
        worst = np.zeros((chunk.shape[1], known.shape[1]), np.uint8)
        for ours, theirs in zip(chunk, known, strict=True):  # panel by panel
            np.maximum(worst, np.bitwise_count(ours[:, None] ^ theirs[None, :]), out=worst)
        nearest = worst.argmin(axis=1)
        for row in np.flatnonzero(worst.min(axis=1) <= MAX_BITS):
            like = earlier[nearest[row]]
            found.append(Alike(later[first + row].name, like.name, int(worst[row, nearest[row]])))
    return found


def _hashes(entries: list[Entry]) -> np.ndarray:
    """uint64 (panels, N)."""
    digits = b"".join(bytes.fromhex(entry.perceptual_hash) for entry in entries)
    return np.frombuffer(digits, ">u8").reshape(len(entries), -1).T.astype(np.uint64)
