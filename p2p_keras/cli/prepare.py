"""p2p-prepare: images of two kinds -> a checked data set of side-by-side pairs."""

import os
from pathlib import Path

from absl import flags

from p2p_keras.cli import command
from p2p_keras.errors import UserError
from p2p_keras.sizes import Size, to_size

DOC = """
    p2p-prepare makes a data set for p2p-train: pairs of equal size side by side, checked, split, listed.

      p2p-prepare --output=DATA --first=street --second=aerial              two folders of images with equal names
      p2p-prepare --output=DATA --first=street --second=aerial --pairs=pairs.csv      where the names differ
      p2p-prepare --output=DATA --dayton=GTCrossView --train_list=train.txt --test_list=test.txt
      p2p-prepare --output=DATA --composites=OLD --source_panels=aerial,street,map --panels=street,aerial
      p2p-prepare --output=DATA --folders=OLD                               A/train, B/train and so on
      p2p-prepare --output=DATA --download=facades                          one of the classical archives
      p2p-prepare --output=DATA ... --part=0/16                             a sixteenth, on one of several hosts
      p2p-prepare --output=DATA ... --merge                                 and one data set of all sixteen

    Stopped and run again, it continues. Look at preview.png before you train. What could not be used stands in
    rejected.csv and unmatched.csv, what looks alike in different splits in near_duplicates.csv,
    what of a sample seems shifted in misaligned.csv.
    """

FLAGS = flags.FlagValues()

flags.DEFINE_string("output", None, "Folder of the data set.", flag_values=FLAGS)
flags.DEFINE_string("first", None, "Folder of the left images (searched recursively).", flag_values=FLAGS)
flags.DEFINE_string("second", None, "Folder of the right images, with the same names.", flag_values=FLAGS)
flags.DEFINE_string(
    "pairs",
    None,
    "CSV that pairs the images of --first and --second, whose names may differ: two paths a line, below the folders.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "dayton", None, "GTCrossView as unpacked: streetview and overhead folders with equal names.", flag_values=FLAGS
)
flags.DEFINE_string(
    "composites", None, "Folder of images that are side by side already, with train/, val/, test/ or without.",
    flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_string("folders", None, "Folder with A/train, B/train and so on.", flag_values=FLAGS)
flags.DEFINE_string(
    "download", None, "A classical archive: facades, maps, cityscapes, edges2shoes, edges2handbags, night2day.",
    flag_values=FLAGS,
)  # fmt: skip
flags.DEFINE_list(
    "panels",
    None,
    "What a pair is to show, left to right, as street,aerial. Picks and reorders where the source has names. Default: "
    "the folders' names, or the source's own.",
    flag_values=FLAGS,
)
flags.DEFINE_list(
    "source_panels",
    None,
    "What the --composites show, left to right. Default: their dataset.json, else as --panels.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "image_size",
    None,
    "Of each panel, pixels: 256, or height x width as 256x512; native keeps the size that it has, and p2p-train "
    "resizes. Default: as the data set was begun, else native of composites and downloads, and 256 of all others.",
    flag_values=FLAGS,
)
flags.DEFINE_enum("format", "jpeg", ("jpeg", "png"), "Format of the pairs; png loses nothing.", flag_values=FLAGS)
flags.DEFINE_integer("quality", 95, "JPEG quality, 1 to 100.", flag_values=FLAGS)
flags.DEFINE_integer("channels", 3, "1 grey, 2 grey and alpha, 3 RGB, 4 RGBA (2 and 4 as png).", flag_values=FLAGS)
flags.DEFINE_integer("bits", 8, "8, or 16 of grey as png.", flag_values=FLAGS)
flags.DEFINE_string(
    "splits",
    None,
    "Shares of train, val, test in per cent, by a hash of each name. Where lists or folders say it, only the share of "
    "val counts: it is carved out of train. Default: 90,5,5; with lists or folders no val of its own.",
    flag_values=FLAGS,
)
flags.DEFINE_integer("seed", 0, "Seed of that hash.", flag_values=FLAGS)
flags.DEFINE_string("train_list", None, "File with the names of the training pairs, one a line.", flag_values=FLAGS)
flags.DEFINE_string("val_list", None, "The same of the validation pairs.", flag_values=FLAGS)
flags.DEFINE_string("test_list", None, "The same of the test pairs.", flag_values=FLAGS)
flags.DEFINE_integer(
    "shards",
    0,
    "Pack the pairs into this many TFRecord files, of 100 to 200 MB at best; 0 leaves them loose.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "part",
    None,
    "Make only this part of how many, as 3/16, counted from 0. All parts get the same flags and --output, on a disk "
    "that their hosts share; each may be stopped and run again. --merge makes one data set of them.",
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "merge",
    False,
    "Make one data set of all parts, once each is finished: byte for byte the one that is made without parts.",
    flag_values=FLAGS,
)
flags.DEFINE_integer("workers", None, "Processes. Default: as many as there are cores.", flag_values=FLAGS)
flags.DEFINE_integer("max_bad_files", 0, "Pairs that may be rejected before it stops.", flag_values=FLAGS)

_SOURCES = ("first", "dayton", "composites", "folders", "download")
_DAYTON_COUNTS = {"all": 76_048, "train": 55_000, "test": 21_048}  # section 3.1 of the report
_LEAST_SIDE, _MOST_SIDE = 8, 4096  # pixels of a panel
_GOOD_SHARD = (100_000_000, 200_000_000)  # bytes


def main(values: flags.FlagValues) -> int:
    """Prepares; returns the exit status."""
    given = {name: values[name].value for name in values if name not in ("help", "h", "version")}
    _check(given)

    from p2p_keras.data.prepare import lists
    from p2p_keras.data.prepare.earlier import begun_with
    from p2p_keras.data.prepare.parts import merge, parse_part, prepare_part
    from p2p_keras.data.prepare.run import PREVIEW, prepare
    from p2p_keras.data.prepare.splits import choose, count, parse_shares
    from p2p_keras.data.prepare.stack import Form

    output, part = Path(given["output"]), parse_part(given["part"]) if given["part"] else None
    form = Form(_image_size(given, begun_with(output)), *(given[name] for name in Form._fields[1:]))
    found = _find(given)
    print(f"{command.counted(len(found.sources), 'pair', 'pairs')} in {found.origin['folders']}")
    for remark in found.remarks:
        print(remark)
    if found.unmatched:
        one, many = ("file or line", "files and lines") if given["pairs"] else ("file", "files")
        belong = command.counted(len(found.unmatched), f"{one} belongs", f"{many} belong")
        print(f"{belong} to no pair: {_first(found.unmatched)}")

    shares = parse_shares(given["splits"]) if given["splits"] else None
    files = {split: Path(given[f"{split}_list"]) for split in ("train", "val", "test") if given[f"{split}_list"]}
    splits, rule = choose(found.sources, files, shares, given["seed"])
    for remark in splits.remarks:
        print(remark)
    if splits.left_out:
        print(f"{command.counted(len(splits.left_out), 'name has', 'names have')} no place: {_first(splits.left_out)}")
    counts = count(splits.split_of)
    if given["dayton"]:
        _compare_dayton(len(found.sources), counts, bool(files))
    if not counts["train"]:
        raise UserError("A data set needs training pairs, and there would be none. Look at the lists or --splits.")

    if given["shards"] and not given["merge"]:
        with command.quiet_start():  # its messages are not for the user
            import tensorflow  # noqa: F401

    arguments, shards, bad = (found, splits, output, form, rule), given["shards"], given["max_bad_files"]
    workers = given["workers"] or os.cpu_count() or 1
    if part:
        outcome = prepare_part(*arguments, part, shards, workers, bad)
    elif given["merge"]:
        outcome = merge(*arguments, shards, bad)
    else:
        outcome = prepare(*arguments, shards, workers, bad)
    counted = ", ".join(f"{pairs} {split}" for split, pairs in outcome.counts.items())
    rejected = command.counted(len(outcome.rejected), "pair was", "pairs were") + " rejected"
    if part:
        when = "was finished before" if outcome.finished_before else f"is finished ({outcome.made} made now)"
        print(f"Part {part} of {output} {when}: {counted}{f'; {rejected}' if outcome.rejected else ''}")
        print(f"When all {part.of} are: the same command with --merge instead of --part")
        return 0
    if outcome.finished_before:
        print(f"It was finished before: {counted} in {output}")
        return 0
    pairs = command.counted(sum(outcome.counts.values()), "pair", "pairs")
    print(f"{pairs} in {output}: {counted} ({outcome.made} {'merged' if given['merge'] else 'made'} now)")
    if outcome.removed:
        gone = "no longer in the source and {} removed"
        print(command.counted(outcome.removed, "pair is " + gone.format("was"), "pairs are " + gone.format("were")))
    if outcome.rejected:
        print(f"{rejected}, see {output / lists.REJECTED}")
    if found.unmatched or splits.left_out:
        print(f"What belongs to no pair stands in {output / lists.UNMATCHED}")
    if outcome.alike:
        first = outcome.alike[0]
        look = command.counted(len(outcome.alike), "pair looks", "pairs look")
        print(f"{look} like one of another split, as {first.pair} like {first.like}: see {output / lists.DUPLICATES}")
    for line in outcome.misaligned:
        print(f"{line}: see {output / lists.MISALIGNED}")
    if form.image_size is None:
        print(f"The panels keep their own size, {_sizes(outcome.sizes)}; p2p-train resizes them")
    _remark_on_shards(outcome.shards)
    print(f"Look at {output / PREVIEW}: are the panels {' | '.join(found.panels)}?")
    return 0


def _check(given: dict) -> None:
    if not given["output"]:
        raise UserError("--output names the folder of the data set. Received none. For one: --output=data")
    sources = [name for name in _SOURCES if given[name]]
    if len(sources) != 1 or bool(given["first"]) != bool(given["second"]):
        received = ", ".join(f"--{name}" for name in (*_SOURCES, "second") if given[name]) or "none"
        raise UserError(
            "The images come from one of --first with --second, --dayton, --composites, --folders, --download. "
            f"Received: {received}"
        )
    if given["part"] and given["merge"]:
        raise UserError("Give --part, or, once all parts are finished, --merge, not both.")
    for name, least, most in (("quality", 1, 100), ("channels", 1, 4)):
        if not least <= given[name] <= most:
            raise UserError(f"--{name} must lie in {least} to {most}. Received: {given[name]}")
    for name, least in (("shards", 0), ("max_bad_files", 0), ("workers", 1)):
        if given[name] is not None and given[name] < least:
            raise UserError(f"--{name} must be at least {least}. Received: {given[name]}")
    if (given["bits"], given["channels"]) != (16, 1) and given["bits"] != 8:
        raise UserError(
            f"--bits is 8, or 16 with --channels=1. Received: {given['bits']} with {given['channels']} channels. "
            "p2p-train reads colours of 16 bits from A/ and B/ folders as they are."
        )
    if given["format"] == "jpeg" and (given["bits"] == 16 or given["channels"] in (2, 4)):
        raise UserError("JPEG has neither 16 bits nor alpha. Add --format=png.")
    if given["pairs"] and not given["first"]:
        raise UserError("--pairs pairs the images of --first and --second. With other sources leave it out.")
    if given["source_panels"] and not given["composites"]:
        raise UserError("--source_panels says what --composites show. With other sources leave it out.")


def _image_size(given: dict, begun: dict) -> Size | None:
    """Of each panel; None for that which it has."""
    default = "native" if given["composites"] or given["download"] else 256
    value = given["image_size"] or begun.get("image_size", default)
    if value == "native":
        return None
    try:
        size = to_size(value)
        if not _LEAST_SIDE <= min(size) <= max(size) <= _MOST_SIDE:
            raise ValueError(f"height and width must lie in {_LEAST_SIDE} to {_MOST_SIDE}, not {size}")
    except ValueError as error:
        raise UserError(f"--image_size: {error}. native keeps the panels' own.") from error
    return size


def _find(given: dict):
    from p2p_keras.data.prepare import pairing, sources

    panels, source_panels = (tuple(name.strip() for name in given[flag] or ()) for flag in ("panels", "source_panels"))
    if not all(panels + source_panels):
        raise UserError("A panel needs a name, as in --panels=street,aerial. One of those given has none.")
    if len(set(panels)) < len(panels) or len(panels) == 1:
        raise UserError(f"--panels names two or more different panels, as street,aerial. Received: {','.join(panels)}")
    if given["first"]:
        folders = [Path(given["first"]), Path(given["second"])]
        if given["pairs"]:
            return pairing.listed_pairs(Path(given["pairs"]), folders, panels)
        return sources.two_folders(folders, panels)
    if given["dayton"]:
        return sources.dayton(Path(given["dayton"]), panels)
    if given["composites"]:
        return sources.composites(Path(given["composites"]), source_panels, panels)
    if given["folders"]:
        return sources.panel_folders(Path(given["folders"]), panels)
    from p2p_keras.data import archives

    folder = archives.fetch_archive(given["download"])
    return sources.composites(folder, archives.ARCHIVES[given["download"]].panels, panels)


def _compare_dayton(pairs: int, counts: dict[str, int], lists: bool) -> None:
    found = {"all": pairs, "train": counts["train"] + counts["val"], "test": counts["test"]}
    for split, expected in _DAYTON_COUNTS.items():
        if found[split] != expected and (lists or split == "all"):
            name = "pairs" if split == "all" else f"pairs of {split}" + (" (with val)" if split == "train" else "")
            print(f"Dayton has {expected:,} {name}; here are {found[split]:,}, {found[split] - expected:+,}")


def _remark_on_shards(shards: dict[str, int]) -> None:
    if not shards:
        return
    total, mean = sum(shards.values()), sum(shards.values()) / len(shards)
    print(f"{len(shards)} shards of {mean / 1e6:.0f} MB on average")
    least, most = _GOOD_SHARD
    if not least <= mean <= most and total > least:
        print(f"100 to 200 MB suit network disks best: --shards={max(1, round(total / 150e6))}")


def _sizes(found: set[Size]) -> str:
    """`600x600`, or the smallest and the largest of several."""
    sizes = sorted(found, key=lambda size: (size.height * size.width, size))
    return str(sizes[0]) if len(sizes) == 1 else f"{len(sizes)} of them from {sizes[0]} to {sizes[-1]}"


def _first(reasons: dict[str, str]) -> str:
    name, why = next(iter(reasons.items()))
    return f"{name} ({why}){', ...' if len(reasons) > 1 else ''}"


def entry_point() -> None:
    """`p2p-prepare`."""
    command.run(main, FLAGS, DOC)


if __name__ == "__main__":
    entry_point()
