"""The classical pix2pix data sets by name: where they are, what their panels show, how many images they hold.

Where each fact comes from; none of it could be tried here against the hosts themselves. No sha256 of these archives was
found published (TheProjectsGuy/MLHub, `src/mlhub/pix2pix/data.py`, has MD5 sums of all six; no other source was found):
the first content that is fetched under a name is recorded, and nothing else is taken under that name from then on.

- Hosts. efrosgans.eecs.berkeley.edu: junyanz/pytorch-CycleGAN-and-pix2pix, `datasets/download_pix2pix_dataset.sh`, with
  http, which is not used here; later users give https, such as MLHub, which tensorflow/examples PR 333 found not set up
  in 2021. people.eecs.berkeley.edu: phillipi/pix2pix, `datasets/download_dataset.sh`, and
  affinelayer/pix2pix-tensorflow, `tools/download-dataset.py`; it has answered 404 since 2021 (the same PR). No source
  was found that names it for night2day, which came later.
- Sizes. The index of efrosgans, as a public README of 2024 copied it; MB of 2**20 bytes, those in GB to a tenth of one.
  wget's logs in public notebooks agree for facades (30,168,306 bytes) and maps (250,242,400).
- Panels, A at the left. facades: TensorFlow's pix2pix tutorial cuts photo | labels. maps and edges2shoes:
  open-mmlab/mmgeneration, `configs/pix2pix`, names aerial | map and edges | photo. edges2handbags: the same edges, made
  and trained on alike in phillipi/pix2pix, README.md. cityscapes: two public loaders take the photo from the left.
  night2day: in junyanz's `docs/datasets.md` "day2night" is BtoA.
- Images to train on. MindSpore's pix2pix README, table of `dataset_size`, for all six; phillipi/pix2pix, README.md,
  for facades, cityscapes and maps (it rounds edges2shoes to 50k, and says 137K for edges2handbags).
- Images in val and test. facades: a public notebook that prints every name in the archive. maps: `fake_nums` of
  mmgeneration, and vktr274/pix2pix-maps, README.md. edges2shoes: `fake_nums`; with train that makes the 50,025 of
  huggan/edges2shoes. cityscapes: what huggan/cityscapes (3,475) has beyond train. night2day: a public listing of its
  folders; together the 20,120 of huggan/night2day. Not verified is val of edges2handbags, therefore None.

The images have terms of their own, for which whoever downloads them answers. The authors' script has stopped offering
Cityscapes because of its licence; the archive was still on the host in 2024.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from p2p_keras.data.pairs import find_pairs
from p2p_keras.errors import UserError
from p2p_keras.system.cache import cache_folder
from p2p_keras.system.fetch import Words, fetch


class Archive(NamedTuple):
    """One data set as published.

    Attributes:
        urls: Where it is, the likeliest place first.
        panels: What each panel of a composite shows, left to right.
        counts: Number of images in each split that it holds; None where no source says.
        size_mb: Of the archive, about, in units of 2**20 bytes.
    """

    urls: tuple[str, ...]
    panels: tuple[str, ...]
    counts: dict[str, int | None]
    size_mb: int


def _urls(name: str, older: bool = True) -> tuple[str, ...]:
    places = ["https://efrosgans.eecs.berkeley.edu/pix2pix/datasets"]
    if older:
        places.append("https://people.eecs.berkeley.edu/~tinghuiz/projects/pix2pix/datasets")
    return tuple(f"{place}/{name}.tar.gz" for place in places)


ARCHIVES = {
    "facades": Archive(_urls("facades"), ("photo", "labels"), {"train": 400, "val": 100, "test": 106}, 29),
    "maps": Archive(_urls("maps"), ("aerial", "map"), {"train": 1096, "val": 1098}, 239),
    "cityscapes": Archive(_urls("cityscapes"), ("photo", "labels"), {"train": 2975, "val": 500}, 99),
    "edges2shoes": Archive(_urls("edges2shoes"), ("edges", "photo"), {"train": 49825, "val": 200}, 2050),
    "edges2handbags": Archive(_urls("edges2handbags"), ("edges", "photo"), {"train": 138567, "val": None}, 8200),
    "night2day": Archive(
        _urls("night2day", older=False), ("night", "day"), {"train": 17823, "val": 10, "test": 2287}, 1950
    ),
}
ARCHIVES["night2photos"] = ARCHIVES["night2day"]  # as some call it


def fetch_archive(name: str, report: Callable[[str], None] = print) -> Path:
    """Downloads a data set once into the cache; a download that was cut off is resumed by the next call.

    Args:
        name: One of `ARCHIVES`.
        report: Told in one line what is downloaded, and where the number of images is not the published one.

    Returns:
        The folder with `train/` in it. It belongs to the cache: whoever changes it makes the next call refuse it.

    Raises:
        UserError: There is no data set of that name, it cannot be had, or what came is no such data set or not the
            one that came first.
    """
    if name not in ARCHIVES:
        raise UserError(
            f"The data sets that can be downloaded are {', '.join(ARCHIVES)}. Received {name}. Name one of them, or "
            "give the folder of your own with p2p-prepare --composites=FOLDER."
        )
    archive = ARCHIVES[name]
    folder = cache_folder() / "datasets" / name
    words = Words(
        noun="data set",
        subject=f"The data set {name}",
        formats="a tar or zip archive",
        way_out=f"download {archive.urls[0]} elsewhere, unpack it and give the folder with "
        f"p2p-prepare --composites=FOLDER --source_panels={','.join(archive.panels)}",
    )
    if not folder.exists():
        report(f"{name} is about {archive.size_mb} MB, downloaded once into {folder}")
    fetch(archive.urls, folder, words, report, name=name)
    root = _holder_of_train(folder, name)
    for line in _differences(root, name, archive.counts):
        report(line)
    return root


def _holder_of_train(folder: Path, name: str) -> Path:
    """The archives have one folder at the top, of their own name."""
    inside = sorted(path for path in folder.iterdir() if path.is_dir())
    for root in (folder, *inside):
        if (root / "train").is_dir():
            return root
    received = ", ".join(path.name for path in inside) or "no folder"
    raise UserError(
        f"The archive of {name} must hold a folder train/, at the top or one below. {folder} holds {received}. "
        "Remove it, then it is downloaded again."
    )


def _differences(root: Path, name: str, counts: dict[str, int | None]) -> Iterator[str]:
    """One line for each split that does not hold as many images as published."""
    splits = find_pairs(root).splits
    for split, published in counts.items():
        found = len(splits[split])
        if published is not None and found != published:
            yield f"{name} was published with {published} images in {split}/, but {root / split} holds {found}"
