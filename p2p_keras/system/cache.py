"""Where what is made or fetched once is kept, for all runs."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """`p2p_keras` in the user's cache folder, which XDG_CACHE_HOME moves."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "p2p_keras"
