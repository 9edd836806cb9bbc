"""pix2pix in TensorFlow/Keras: paired image-to-image translation.

Importing it is quick: TensorFlow is loaded by the modules that need it, as `p2p_keras.models`.
"""

from p2p_keras.config import TrainConfig
from p2p_keras.errors import UserError
from p2p_keras.presets import PRESETS, make_config

__version__ = "0.1.0"
__all__ = ["PRESETS", "TrainConfig", "UserError", "make_config"]
