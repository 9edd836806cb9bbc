"""The only door to tensorflow-gan: its formulas, without its package.

`import tensorflow_gan` needs `tf.estimator`, which TensorFlow dropped in 2.16 (tensorflow/gan issues 55 and 59). The
formulas themselves are sound, so their module is loaded on its own: the packages above it are put into `sys.modules`
empty, with the right `__path__`, and removed again.
"""

import importlib
import importlib.util
import logging
import sys
import types
from pathlib import Path

import tensorflow as tf


def _load() -> types.ModuleType:
    spec = importlib.util.find_spec("tensorflow_gan")  # finds the folder, runs nothing
    if spec is None:
        raise ModuleNotFoundError(
            "tensorflow-gan is needed for FID, KID and Inception Score: pip install tensorflow-gan"
        )
    root = Path(spec.submodule_search_locations[0])
    folders = {"tensorflow_gan": root, "tensorflow_gan.python": root / "python"}
    folders["tensorflow_gan.python.eval"] = root / "python" / "eval"
    empty = {}
    for name, folder in folders.items():
        if name not in sys.modules:
            empty[name] = sys.modules[name] = types.ModuleType(name)
            empty[name].__path__ = [str(folder)]
    try:
        return importlib.import_module("tensorflow_gan.python.eval.classifier_metrics")
    finally:
        for name in empty:
            sys.modules.pop(name, None)


_formulas = _load()

classifier_score_from_logits = _formulas.classifier_score_from_logits
frechet_classifier_distance_from_activations = _formulas.frechet_classifier_distance_from_activations
trace_sqrt_product = _formulas.trace_sqrt_product


def kernel_classifier_distance_from_activations(
    activations1: tf.Tensor, activations2: tf.Tensor, max_block_size: int
) -> tf.Tensor:
    """tensorflow-gan's function of this name, without the deprecation notice that it logs for its own code."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        return _formulas.kernel_classifier_distance_from_activations(activations1, activations2, max_block_size)
    finally:
        logger.setLevel(level)
