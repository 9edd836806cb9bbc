"""What is killed: a command, the folder it finds, what may never be lost there, and what must come out in the end."""

import hashlib
import json
import re
import shutil
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from faults.server import Server

# What a killed command was writing, ours and TensorFlow's; none may be there after the command has come through.
LEFTOVER = re.compile(r"(^|/)\.[^/]*part|\.part/|\.part$|tempstate|_temp/|\.tmp|^\.prepare")
_RUN = ["--image_size=32", "--base_filters=8", "--discriminator=pixel", "--batch_size=2", "--precision=float32"]
_RUN += ["--direction=AtoB", "--checkpoint_every_steps=3", "--keep_checkpoints=1"]
_RUN += ["--eval_every_epochs=1", "--snapshot_every_epochs=1"]

Tree = dict[str, bytes]


class Scene(NamedTuple):
    """A command on a folder.

    Attributes:
        name: Shown in the tables.
        command: As `train`.
        flags: Of the command, given the folder and the drawn data.
        begin: Makes what the command finds in the folder.
        either: Groups of folders: of each group one must be whole at any moment.
    """

    name: str
    command: str
    flags: Callable[[Path, Path], list[str]]
    begin: Callable[[Server, Path, Path], None]
    either: tuple[tuple[str, ...], ...] = ()


def draw_data(folder: Path) -> None:
    """Composites of 32x32 in `pairs/`, and the same as two folders in `raw/`, with three pairs less in `fewer/`."""
    for split, count in (("train", 6), ("val", 2), ("test", 2)):
        for number in range(count):
            first, second = _draw_pair(number)
            for path, image in (
                (folder / "pairs" / split / f"{number}.png", np.concatenate([first, second], axis=1)),
                (folder / "raw" / "left" / f"{split}{number}.png", first),
                (folder / "raw" / "right" / f"{split}{number}.png", second),
            ):
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(path)
    shutil.copytree(folder / "raw", folder / "fewer")
    for path in [*(folder / "fewer").glob("*/test*"), *(folder / "fewer").glob("*/train0*")]:
        path.unlink()


def _draw_pair(number: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.RandomState(number)
    first = np.zeros((32, 32, 3), np.uint8)
    top, left = rng.randint(0, 16, 2)
    first[top : top + 16, left : left + 16] = rng.randint(40, 216, 3)
    return first, 255 - first


def _train(epochs: int) -> Callable[[Path, Path], list[str]]:
    return lambda folder, data: [f"--data_dir={data / 'pairs'}", f"--workdir={folder}", f"--epochs={epochs}", *_RUN]


def _trained(epochs: int) -> Callable[[Server, Path, Path], None]:
    def begin(server: Server, folder: Path, data: Path) -> None:
        _succeed(server, folder, "train", *_train(epochs)(folder, data))

    return begin


def _scored(server: Server, folder: Path, data: Path) -> None:
    _succeed(server, folder, "train", *_train(2)(folder, data), "--keep_checkpoints=2")
    _succeed(server, folder, "eval", f"--workdir={folder}", "--checkpoint=3", *_eye(data))


def _eye(data: Path) -> list[str]:
    return [f"--inception={data / 'eye'}", "--batch_size=2"]


def _exported(server: Server, folder: Path, data: Path) -> None:
    _trained(1)(server, folder / "run", data)
    _succeed(server, folder, "export", *_export(folder, data))


def _export(folder: Path, data: Path) -> list[str]:
    return [f"--workdir={folder / 'run'}", f"--output={folder / 'models'}"]


def _prepare(source: str, *more: str) -> Callable[[Path, Path], list[str]]:
    def flags(folder: Path, data: Path) -> list[str]:
        sides = [f"--first={data / source / 'left'}", f"--second={data / source / 'right'}"]
        return [f"--output={folder}", *sides, "--image_size=16", "--format=png", "--workers=1", *more]

    return flags


def _nothing(server: Server, folder: Path, data: Path) -> None:
    folder.mkdir()


def _prepared(server: Server, folder: Path, data: Path) -> None:
    """A finished set of fewer pairs, from a folder that has more of them by now."""
    source = data / "growing"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(data / "fewer", source)
    _succeed(server, folder, "prepare", *_prepare("growing")(folder, data))
    shutil.rmtree(source)
    shutil.copytree(data / "raw", source)


def _succeed(server: Server, folder: Path, command: str, *flags: str) -> None:
    result = server.run(folder, command, *flags)
    assert result.status == 0, result


SCENES = [
    Scene(
        "p2p-train, a second epoch",
        "train",
        _train(2),
        _trained(1),
        (
            ("checkpoints/step_00000003", "checkpoints/step_00000006", "checkpoints/best/step_00000006"),
            ("checkpoints/best/step_00000003", "checkpoints/best/step_00000006"),
        ),
    ),
    Scene("p2p-train, from nothing", "train", _train(2), _nothing),
    Scene(
        "p2p-eval, of all checkpoints",
        "eval",
        lambda folder, data: [f"--workdir={folder}", "--checkpoint=all", "--save_images", *_eye(data)],
        _scored,
    ),
    Scene("p2p-export, a second version", "export", _export, _exported),
    Scene("p2p-prepare", "prepare", _prepare("raw"), _nothing),
    Scene("p2p-prepare, more pairs", "prepare", _prepare("growing"), _prepared),
    Scene("p2p-prepare --shards", "prepare", _prepare("raw", "--shards=4"), _nothing),
]


def content(folder: Path) -> Tree:
    """Every file by its path, without what differs from one run to the next, for it holds times or is for nobody."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir():
            if LEFTOVER.search(f"{name}/"):
                found[f"{name}/"] = b""
            continue
        if path.name in (".lock", "fingerprint.pb") or name.startswith(("summaries/", "run/", "before_")):
            continue
        found[name] = _without_times(path, path.read_bytes())
    return found


def _without_times(path: Path, text: bytes) -> bytes:
    if path.name == "history.jsonl":  # how long an epoch took
        lines = []
        for line in text.splitlines():
            try:
                record = json.loads(line)
                lines.append({key: record[key] for key in record if key not in ("secs", "images_per_sec", "crc32")})
            except ValueError:
                lines.append(line.decode(errors="replace"))
        return "".join(json.dumps(line) + "\n" for line in lines).encode()
    if path.name == "metadata.json":  # of an export: TensorFlow does not give two of one model the same bytes
        try:
            record = json.loads(text)
        except ValueError:  # half of it
            return text
        record.pop("crc32", None)  # of the whole, and so of these sums
        sums = record.pop("sha256")
        changed = [
            name for name in sums if not (path.parent / name).is_file() or _sum(path.parent / name) != sums[name]
        ]
        return json.dumps({**record, "not as said": changed}).encode()
    return text


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def losses(scene: Scene, before: Tree, after: Tree, end: Tree) -> list[str]:
    """What was whole before the command was killed, and is now neither that nor what it would have become."""
    lost = []
    grouped = tuple(place for group in scene.either for place in group)
    for name in before.keys() & end.keys():
        if name.startswith(grouped) or name.startswith(".prepare"):
            continue
        if name not in after:
            lost.append(f"{name} has gone")
        elif after[name] not in (before[name], end[name]) and not _holds(name, after[name], before[name]):
            lost.append(f"{name} is neither the old one nor the new one")
    for group in scene.either:
        if not any(_is_whole(place, before, after) or _is_whole(place, end, after) for place in group):
            lost.append(f"none of {', '.join(group)} is whole")
    return sorted(lost)


def _holds(name: str, now: bytes, before: bytes) -> bool:
    """Whether a file that grows record by record still has all that it had."""
    if name.endswith("metrics.json"):
        known = json.loads(now)["records"]
        return all(record in known for record in json.loads(before)["records"])
    if name.endswith((".jsonl", "per_image.csv")):
        return set(before.splitlines()) <= set(now.splitlines())
    return name.endswith((".png", "reference.npz")) and now[-12:] == b"\0\0\0\0IEND\xaeB`\x82"  # drawn anew on the way


def _is_whole(place: str, wanted: Tree, now: Tree) -> bool:
    files = {name: text for name, text in wanted.items() if name.startswith(f"{place}/")}
    return bool(files) and files == {name: text for name, text in now.items() if name.startswith(f"{place}/")}


def differences(end: Tree, found: Tree) -> list[str]:
    """In what a folder differs from that of the command that nothing stopped, once it has come through again.

    An export that was published before the kill, but not told of, is there a second time.
    """
    wrong = [f"{name} is left over" for name in found if LEFTOVER.search(name)]
    last = max((int(name.split("/")[1]) for name in end if name.startswith("models/")), default=None)
    if last:
        again = {name: text for name, text in found.items() if name.startswith(f"models/{last + 1}/")}
        found = {name: text for name, text in found.items() if name not in again}
        newest = {name: text for name, text in end.items() if name.startswith(f"models/{last}/")}
        twice = {name.replace(f"models/{last + 1}/", f"models/{last}/"): text for name, text in again.items()}
        same = newest.keys() == twice.keys() and all(
            newest[name] == twice[name] or _same_values(name, newest, twice) for name in newest
        )
        wrong += ["the second export differs"] if again and not same else []
    for name in sorted(end.keys() | found.keys()):
        if not LEFTOVER.search(name) and end.get(name) != found.get(name) and not _same_values(name, end, found):
            wrong.append(f"{name} {'differs' if name in end and name in found else 'is missing or new'}")
    return wrong


def _same_values(name: str, one: Tree, other: Tree) -> bool:
    """Whether a file is of two checkpoints, or SavedModels, that hold the same values.

    Their bytes may differ: the networks' own checkpoint names its objects otherwise than that of their copy, and
    TensorFlow numbers the variables of a SavedModel, and with them its graph, in no fixed order.
    """
    if re.fullmatch(r"models/\d+/saved_model\.pb", name):  # what it does, p2p-export itself compares with the run
        return name in one and name in other
    if not name.startswith(("checkpoints/", "snapshots/")) and "/variables/" not in name:
        return False
    place, values = name.rpartition("/")[0], []
    import tensorflow as tf

    for tree in (one, other):
        with tempfile.TemporaryDirectory() as folder:
            for path, text in tree.items():
                if path.startswith(f"{place}/"):
                    (Path(folder) / path.rpartition("/")[2]).write_bytes(text)
            if len(list(Path(folder).iterdir())) != 2:
                return False
            reader = tf.train.load_checkpoint(f"{folder}/{'variables' if '/variables/' in name else 'checkpoint'}")
            kinds = reader.get_variable_to_dtype_map()
            found = {key: reader.get_tensor(key).tobytes() for key, kind in kinds.items() if kind != tf.string}
            values.append(sorted(found.values()) if "/variables/" in name else found)
    return values[0] == values[1]


def events(folder: Path) -> set[tuple[str, int]]:
    """Tag and step of all that TensorBoard would show."""
    from tensorflow.core.util.event_pb2 import Event

    found = set()
    for path in folder.glob("summaries/events*"):
        text, place = path.read_bytes(), 0
        while place + 16 <= len(text):  # length, checksum, record, checksum
            size = struct.unpack_from("<Q", text, place)[0]
            if place + 16 + size > len(text):  # cut short by the kill
                break
            event = Event.FromString(text[place + 12 : place + 12 + size])
            found |= {(value.tag, event.step) for value in event.summary.value}
            place += 16 + size
    return found
