"""Metrics: pure functions over arrays, arguments named by role; the feature extractor is injected."""

import importlib

_HOMES = {
    "distribution": ("frechet_distance", "inception_score", "kernel_distance"),
    "inception": ("Extractor", "load_extractor"),
    "labels": ("confusion", "mean_iou", "pixel_accuracy"),
    "paired": (
        "crossview_psnr",
        "crossview_sharpness_difference",
        "crossview_ssim",
        "l1",
        "psnr",
        "sharpness_difference",
        "ssim",
    ),
}
__all__ = sorted(name for names in _HOMES.values() for name in names)


def __getattr__(name: str):
    """Loads a function's module when it is first asked for, so that the table of metrics loads without TensorFlow."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
