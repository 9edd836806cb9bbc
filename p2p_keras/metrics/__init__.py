"""Metrics: pure functions over arrays, arguments named by role; the feature extractor is injected."""

from p2p_keras.metrics.distribution import frechet_distance, inception_score, kernel_distance
from p2p_keras.metrics.inception import Extractor, load_extractor
from p2p_keras.metrics.labels import confusion, mean_iou, pixel_accuracy
from p2p_keras.metrics.paired import (
    crossview_psnr,
    crossview_sharpness_difference,
    l1,
    psnr,
    sharpness_difference,
    ssim,
)

__all__ = [
    "Extractor",
    "confusion",
    "crossview_psnr",
    "crossview_sharpness_difference",
    "frechet_distance",
    "inception_score",
    "kernel_distance",
    "l1",
    "load_extractor",
    "mean_iou",
    "pixel_accuracy",
    "psnr",
    "sharpness_difference",
    "ssim",
]
