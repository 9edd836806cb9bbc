"""Which packages computed something: written beside every run and every number."""

import platform
from importlib.metadata import version

VERSION = "0.1.0"  # of this package; setup.py reads it here


def versions() -> dict[str, str]:
    """Versions of this package, of what it computes with, and of Python."""
    packages = ("tensorflow", "keras", "tensorflow-gan", "numpy")
    return {
        "p2p_keras": VERSION,
        **{package: version(package) for package in packages},
        "python": platform.python_version(),
    }
