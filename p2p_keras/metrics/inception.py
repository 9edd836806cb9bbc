"""The extractor: images in, an Inception network's features and logits out, with the exact preprocessing in front.

Measures such as FID compare the features of one certain network, the Inception v3 of 2015-12-05. Any other network may
be put in its place, under another name: see `Extractor.label`. A network is a program: load it only from where you
would take one. What is downloaded comes by https, is compared with the published sum where there is one, and must be
the same as the first time.
"""

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from p2p_keras.errors import UserError
from p2p_keras.metrics.frozen_graph import Network, flatten, load_frozen_graph
from p2p_keras.system.cache import cache_folder
from p2p_keras.system.fetch import RECORD, Words, content_checksum, fetch, install, is_cached, short_hash
from p2p_keras.system.files import read_json
from p2p_keras.system.pins import Pin

SIZE = 299
RESIZING = f"bicubic, antialiased, clipped, to {SIZE}x{SIZE}"  # what `preprocess` does, for the record

# The network of 2015-12-05: the file of TensorFlow's tutorials, in its archive and as openai/guided-diffusion's
# evaluations/evaluator.py fetches it; TF-GAN's module, where it was, where it has moved and where it lay; and TF-GAN's
# earlier file (it is called v1, but is the same Inception v3). Links rot. Those with a published sum come first.
KNOWN_PLACES = (
    "https://storage.googleapis.com/download.tensorflow.org/models/image/imagenet/inception-2015-12-05.tgz",
    "https://openaipublic.blob.core.windows.net/diffusion/jul-2021/ref_batches/classify_image_graph_def.pb",
    "https://tfhub.dev/tensorflow/tfgan/eval/inception/1?tf-hub-format=compressed",
    "https://www.kaggle.com/api/v1/models/tensorflow/inception/tensorFlow1/tfgan-eval-inception/1/download",
    "https://storage.googleapis.com/tfhub-modules/tensorflow/tfgan/eval/inception/1.tar.gz",
    "https://storage.googleapis.com/download.tensorflow.org/models/frozen_inception_v1_2015_12_05.tar.gz",
)

# Of classify_image_graph_def.pb, 95,673,916 bytes, as Dramwig/CoFiTok-internal on GitHub gives it in
# docs/experiment_conditions/adm_evaluator_asset_2026-07-11.md; two more public repositories give the same for that
# URL. That the archive holds this file follows from its size in public listings of the archive; if it were another,
# that place would be skipped. Nobody was found who publishes the sums of TF-GAN's files.
_GRAPH_SHA256 = "009d6814d1bc560d4e7b236e170e9b2d5ca6f4b57bd8037f6db05776204415c6"
PINS = {
    KNOWN_PLACES[0]: Pin(_GRAPH_SHA256, "classify_image_graph_def.pb"),
    KNOWN_PLACES[1]: Pin(_GRAPH_SHA256),
}


class Extractor(NamedTuple):
    """A network with its preprocessing, and what must be written beside every number it gives.

    Attributes:
        run: uint8 (B, H, W, 3) -> features float32 (B, width), and logits float32 (B, classes) or None.
        source: The path or URL it was loaded from.
        sha256: Of the SavedModel's folder or the frozen graph's file, so the same wherever that was fetched from.
        width: Number of features.
        classes: Number of logits, None without.
    """

    run: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]
    source: str
    sha256: str
    width: int
    classes: int | None

    @property
    def label(self) -> str:
        """Belongs after a measure's name, as in `fid@768`; empty for the customary 2048 features."""
        return "" if self.width == 2048 else f"@{self.width}"


def preprocess(images: tf.Tensor) -> tf.Tensor:
    """Resizes and scales images for Inception.

    Resized as in clean-fid (Parmar et al., "On Aliased Resizing and Surprising Subtleties in GAN Evaluation", CVPR
    2022): bicubic with antialiasing, in float, clipped, not rounded. Then (x - 128) / 128, as in the original graph.
    Departures: TF-GAN does not resize at all, and the original graph does so bilinearly without antialiasing.

    Args:
        images: uint8 (B, H, W, 3).

    Returns:
        float32 (B, 299, 299, 3) in [-1, 127 / 128].
    """
    resized = tf.image.resize(images, (SIZE, SIZE), method="bicubic", antialias=True)
    return (tf.clip_by_value(resized, 0.0, 255.0) - 128.0) / 128.0


def load_extractor(source: str, report: Callable[[str], None] = print, cache: Path | None = None) -> Extractor:
    """Loads a network and tries it on two images.

    Args:
        source: `default` for the network of `KNOWN_PLACES`, downloaded once; or the https URL of an archive; or a
            folder with a SavedModel or a frozen graph in it, at whatever depth; or a `.pb` file; or an archive.
        report: Called with one line for each download.
        cache: Where archives are unpacked; the user's cache folder without.

    Raises:
        UserError: There is no network, or none with an output `pool_3` for images of (B, 299, 299, 3).
    """
    try:
        path, name = _find(source, report, cache or cache_folder() / "inception")
        sha256 = content_checksum(path)
        network = _load_saved_model(path) if path.is_dir() else load_frozen_graph(path)
    except OSError as error:
        raise UserError(
            f"A network's files must be readable. {error.filename or source}: {error.strerror or error}. "
            "Change the permissions or name another network."
        ) from error
    run = _make_run(network, path)
    width, classes = _probe(run, path)
    return Extractor(run, name, sha256, width, classes)


def _find(source: str, report: Callable[[str], None], cache: Path) -> tuple[Path, str]:
    """The SavedModel's folder or the frozen graph's file, and what to call its source."""
    if source == "default":
        folder = fetch(KNOWN_PLACES, cache / "default", _words(KNOWN_PLACES[0]), report, pins=PINS)
        return _network_in(folder), read_json(folder / RECORD)["url"]
    if source.startswith(("http://", "https://")):
        return _network_in(fetch([source], cache / f"url-{short_hash(source)}", _words(source), report)), source
    path = Path(source).expanduser()
    if not path.exists():
        raise UserError(
            "A network is a SavedModel's folder, a frozen graph (.pb), an archive of either, or its URL. "
            f"Received {source}: there is no such file. Correct the path, or take the default network."
        )
    if path.is_dir():
        return _network_in(path), source
    if path.suffix == ".pb":
        return path.parent if path.name == "saved_model.pb" else path, source
    folder = cache / f"archive-{content_checksum(path)[:16]}"
    if not is_cached(folder, _words(source)):
        install(path, folder, _words(source))
    return _network_in(folder), source


def _words(source: str) -> Words:
    """What messages of fetching a network say."""
    return Words(
        noun="network",
        subject="It",
        formats="a tar or zip archive, or as a .pb file",
        way_out=f"download {source} elsewhere and give it with --inception=FILE",
    )


def _network_in(folder: Path) -> Path:
    """The SavedModel's folder in a folder, or else its frozen graph: the one that lies least deep."""
    found = [path.parent for path in folder.rglob("saved_model.pb")]
    found = found or [path for path in folder.rglob("*.pb") if path.name != "fingerprint.pb"]
    nearest = [path for path in found if len(path.parts) == min(len(other.parts) for other in found)]
    if len(nearest) != 1:
        names = ", ".join(sorted(path.relative_to(folder).as_posix() for path in nearest)) or "neither"
        raise UserError(
            "A network's folder must hold one saved_model.pb, or else one frozen graph (.pb). "
            f"Received {folder} with {names}. Name the folder or file of the network itself."
        )
    return nearest[0]


def _load_saved_model(folder: Path) -> Network:
    try:
        loaded = tf.saved_model.load(
            str(folder)
        )  # not by tensorflow_hub: it needs pkg_resources, which setuptools 82 dropped
    except Exception as error:  # a foreign file: it may fail in any part of the loader
        raise UserError(
            f"A SavedModel must load with tf.saved_model.load. {folder} does not: {_main_line(error)}. "
            "Fetch it again or name another network."
        ) from error
    signatures = getattr(loaded, "signatures", {})
    for key in ("serving_default", "default"):
        inputs = list(signatures[key].structured_input_signature[1]) if key in signatures else []
        # The call goes by way of `loaded`, for a signature alone does not keep its variables alive.
        if len(inputs) == 1 and "pool_3" in signatures[key].structured_outputs:
            return lambda images: loaded.signatures[key](**{inputs[0]: images})
    if callable(loaded):
        return loaded
    received = {key: sorted(signatures[key].structured_outputs) for key in signatures}
    raise UserError(
        "A SavedModel needs a signature serving_default or default, or else a call, of one input and an output pool_3. "
        f"{folder} has the signatures and outputs {received or 'none'}. Name another network."
    )


def _make_run(network: Network, path: Path) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray | None]]:
    @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)], autograph=False)
    def compute(images: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = network(preprocess(images))
        if not isinstance(outputs, dict) or "pool_3" not in outputs:
            received = sorted(outputs) if isinstance(outputs, dict) else type(outputs).__name__
            raise UserError(f"A network needs an output pool_3. {path} gives {received}. Name another network.")
        return {name: flatten(outputs[name]) for name in ("pool_3", "logits") if name in outputs}

    def run(images: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        with _plain_float32:
            outputs = {name: output.numpy() for name, output in compute(images).items()}  # waits for a GPU in here
        return outputs["pool_3"], outputs.get("logits")

    return run


class _PlainFloat32:
    """No TensorFloat-32 inside: numbers must not depend on the GPU. Training in the same process may want it on.

    It is a setting of the whole process, and several threads may be inside at a time, one for each device.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._before = threading.Lock(), 0, False

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._before = tf.config.experimental.tensor_float_32_execution_enabled()
                tf.config.experimental.enable_tensor_float_32_execution(False)
            self._inside += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                tf.config.experimental.enable_tensor_float_32_execution(self._before)


_plain_float32 = _PlainFloat32()


def _probe(run: Callable, path: Path) -> tuple[int, int | None]:
    """Numbers of features and of logits (or None)."""
    batch = 2
    try:
        features, logits = run(np.zeros((batch, SIZE, SIZE, 3), np.uint8))
    except (ValueError, TypeError, RuntimeError, tf.errors.OpError) as error:
        raise UserError(
            f"A network must run on float32 ({batch}, {SIZE}, {SIZE}, 3), {batch} images. {path} does not: "
            f"{_main_line(error)}. Name another network."
        ) from error
    for name, values in {"pool_3": features, "logits": logits}.items():
        if values is not None and len(values) != batch:
            raise UserError(
                f"A network must give one row for each image. {path} gives {name} {values.shape} for {batch} "
                "images. Name another network."
            )
        if values is not None and not np.all(np.isfinite(values)):
            raise UserError(
                f"A network must give finite numbers. {path} gives a {name} that is not finite for black images. "
                "Fetch it again or name another network."
            )
    return features.shape[1], None if logits is None else logits.shape[1]


def _main_line(error: Exception) -> str:
    """The line that says what is wrong; where a graph fails that is the last, below where in it."""
    text = re.sub(r"\{\{.*?\}\} |\[\[.*?\]\]|\[Op:.*?\]", "", str(error)) or type(error).__name__
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1 if isinstance(error, tf.errors.OpError) else 0].rstrip(".:")
