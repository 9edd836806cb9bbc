"""A stand-in for the Inception network: the same layers, so the same time and memory, and numbers that mean nothing."""

from pathlib import Path

import keras
import tensorflow as tf


def random_inception(folder: Path) -> Path:
    """A SavedModel of Inception v3's layers, with `pool_3` and `logits`."""
    network = keras.applications.InceptionV3(weights=None, classifier_activation=None)
    network = keras.Model(network.inputs, {"pool_3": network.layers[-2].output, "logits": network.output})
    archive = keras.export.ExportArchive()
    archive.track(network)
    signature = [tf.TensorSpec((None, 299, 299, 3), tf.float32)]
    archive.add_endpoint("serving_default", lambda images: network(images, training=False), signature)
    archive.write_out(folder, verbose=False)
    return folder
