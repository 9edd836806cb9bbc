"""Which pair belongs to which split: by lists, by the folders it came from, or by a seeded hash of its name."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from p2p_keras.data.pairs import SPLITS
from p2p_keras.data.prepare.sources import Source
from p2p_keras.data.stems import stem
from p2p_keras.errors import UserError
from p2p_keras.system.files import checksum


class Shares(NamedTuple):
    """Shares of the whole, in per cent."""

    train: float = 90.0
    val: float = 5.0
    test: float = 5.0


class Splits(NamedTuple):
    """Who belongs where."""

    split_of: dict[Source, str]
    left_out: dict[str, str]  # name -> why
    remarks: list[str]


def parse_shares(text: str) -> Shares:
    """`90,5,5` -> train, val, test.

    Raises:
        UserError: They are not three shares of 100.
    """
    try:
        train, val, test = map(float, text.split(","))
        shares = Shares(train, val, test)
        if min(shares) < 0 or not abs(sum(shares) - 100) < 1e-6 or not shares.train:
            raise ValueError
    except ValueError as error:
        raise UserError(
            f"--splits are the shares of train, val and test in per cent, together 100, as 90,5,5. Received: {text}"
        ) from error
    return shares


def choose(
    sources: Sequence[Source], lists: dict[str, Path], shares: Shares | None, seed: int
) -> tuple[Splits, dict[str, Any]]:
    """Splits by the lists if there are any, else by the folders that pairs come from, else by hash.

    Args:
        sources: All pairs.
        lists: Split -> file.
        shares: As given, or None.
        seed: Of what is drawn.

    Returns:
        The splits; and the rule by which they were chosen, for `dataset.json`.

    Raises:
        UserError: A list cannot be read, or a name stands in two.
    """
    val = shares.val if shares else 0
    if lists:
        splits = by_lists(sources, lists, shares, seed)
        rule = {"lists": {split: checksum(path) for split, path in lists.items()}, "val": val}
    elif any(source.split for source in sources):
        splits, rule = by_folders(sources, shares, seed), {"folders": True, "val": val}
    else:
        shares = shares or Shares()
        splits, rule = by_hash(sources, shares, seed), {"shares": list(shares)}
    return splits, {**rule, "seed": seed}


def by_lists(sources: Sequence[Source], lists: dict[str, Path], shares: Shares | None = None, seed: int = 0) -> Splits:
    """Splits as written down: a name a line, with extension or without, with folders or without.

    Args:
        sources: All pairs.
        lists: Split -> file.
        shares: If given, `val` is carved out of `train`, with its share of the two.
        seed: Of that draw.

    Raises:
        UserError: A list cannot be read, or a name stands in two.
    """
    wanted: dict[str, str] = {}
    remarks = []
    for split, path in lists.items():
        names = [stem(line) for line in _read_lines(path)]
        if len(set(names)) < len(names):
            remarks.append(f"{path} names {len(names) - len(set(names))} pairs twice")
        for name in names:
            if wanted.setdefault(name, split) != split:
                raise UserError(
                    f"A pair belongs to one split. {name} is in the lists of {wanted[name]} and of {split}. "
                    "Take it out of one."
                )
    split_of, left_out, met = {}, {}, set()
    for source in sources:
        name = source.name if source.name in wanted else source.name.rpartition("/")[2]
        if name in met:
            left_out[source.name] = "another pair has the name that is in the list"
        elif name in wanted:
            met.add(name)
            split_of[source] = wanted[name]
        else:
            left_out[source.name] = "it is in no list"
    left_out |= dict.fromkeys(sorted(wanted.keys() - met), "it is in a list, but there is no such pair")
    return Splits(_carve_val(split_of, shares, seed), left_out, remarks)


def by_folders(sources: Sequence[Source], shares: Shares | None = None, seed: int = 0) -> Splits:
    """Splits as they were where the pairs come from; with `shares`, `val` is carved out of `train`."""
    return Splits(_carve_val({source: source.split for source in sources}, shares, seed), {}, [])


def by_hash(sources: Sequence[Source], shares: Shares, seed: int = 0) -> Splits:
    """Splits by a hash of each name and the seed, so that no pair moves when others are added.

    First `test` is drawn, then `val` out of the rest: another share of `val` leaves `test` as it is.
    """
    split_of = {
        source: "test" if _draw(seed, "test", source.name) * 100 < shares.test else "train" for source in sources
    }
    return Splits(_carve_val(split_of, shares, seed), {}, [])


def _carve_val(split_of: dict[Source, str], shares: Shares | None, seed: int) -> dict[Source, str]:
    if shares is None or not shares.val:
        return split_of
    share = shares.val / (shares.train + shares.val)
    return {
        source: "val" if split == "train" and _draw(seed, "val", source.name) < share else split
        for source, split in split_of.items()
    }


def _draw(seed: int, purpose: str, name: str) -> float:
    """A number in [0, 1) that depends on nothing but the arguments."""
    digest = hashlib.sha256(f"{seed}\0{purpose}\0{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _read_lines(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(f"A list holds one name a line. {path} cannot be read: {error}") from error
    return [line for line in lines if line]


def count(split_of: dict[Source, str]) -> dict[str, int]:
    """How many pairs each split has."""
    return {split: sum(chosen == split for chosen in split_of.values()) for split in SPLITS}
