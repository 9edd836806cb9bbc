import numpy as np

from p2p_keras.data.manifest import Entry
from p2p_keras.data.prepare import duplicates


def _entry(split, name, *panels):
    return Entry(name, split, 64, 32, 1, "", "".join(f"{panel:016x}" for panel in panels), "1")


def test_the_nearest_of_an_earlier_part_counts_and_every_panel_must_agree():
    a, b = 0x0123456789ABCDEF, 0xFEDCBA9876543210
    entries = [
        _entry("train", "near", a ^ 0b111, b),
        _entry("train", "nearer", a, b ^ 0b1),
        _entry("train", "far", a ^ 0b11111, b),
        _entry("val", "v", a, b),
        _entry("test", "one panel only", a, ~b & (2**64 - 1)),
        _entry("test", "t", a ^ 0b1111, b),
        _entry("test", "another", b, a),
    ]
    assert duplicates.near_duplicates(entries) == [
        ("val/v", "train/nearer", 1),
        ("test/t", "train/near", 1),
    ]


def test_many_pairs_equal_a_count_of_bits_one_by_one():
    rng = np.random.default_rng(0)
    base = [int(value) for value in rng.integers(0, 2**63, 30)]
    entries = [_entry("train", f"{i}", value) for i, value in enumerate(base)]
    for i in range(100):
        flips = sum(1 << int(bit) for bit in rng.choice(64, rng.integers(0, 9), replace=False))
        entries.append(_entry("test", f"{i}", base[i % 30] ^ flips))
    expected = set()
    for entry in entries[30:]:
        bits = [bin(int(entry.perceptual_hash, 16) ^ value).count("1") for value in base]
        if min(bits) <= duplicates.MAX_BITS:
            expected.add((entry.name, min(bits)))
    found = duplicates.near_duplicates(entries)
    assert {(one.pair, one.bits) for one in found} == expected
    assert 20 < len(expected) < 80
    assert duplicates.near_duplicates(entries[:30]) == []
