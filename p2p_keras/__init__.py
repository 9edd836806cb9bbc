"""pix2pix in TensorFlow/Keras: paired image-to-image translation.

    import p2p_keras

    p2p_keras.train("DATA", "runs/mine", direction="AtoB", epochs=50)
    translate = p2p_keras.load("runs/mine")
    picture = translate("photo.jpg")  # uint8 (H, W, 3)

Importing it is quick: TensorFlow is loaded by the first call, and by the modules that need it, as `p2p_keras.models`.
"""

from p2p_keras.api import Translator, load, train
from p2p_keras.config import TrainConfig
from p2p_keras.errors import UserError
from p2p_keras.presets import PRESETS, make_config
from p2p_keras.versions import VERSION

__version__ = VERSION
__all__ = ["PRESETS", "TrainConfig", "Translator", "UserError", "__version__", "load", "make_config", "train"]
