"""Runs and translated pairs for the page, drawn instead of trained."""

import base64
import io
from pathlib import Path

import numpy as np
from conftest import draw_pair, small_config
from PIL import Image

from p2p_keras.config import TrainConfig
from p2p_keras.report.gather import Diagnosis, Run, Sample
from p2p_keras.report.pairs import Pair, Translated
from p2p_keras.report.pictures import embed

HOSTILE = '<img src=x onerror="document.title=1">.png'
FINDING = {
    "name": "discriminator won",
    "evidence": "its loss is 0.04",
    "meaning": "It is sure.",
    "remedy": "--diffaugment",
}


def draw_run(name: str = "mine", epochs: int = 4, config: TrainConfig | None = None, **more) -> Run:
    """A run of three steps an epoch, whose losses are the epoch's number over 10, and that sampled the first four."""
    config = config or small_config(Path("data"), epochs=epochs)
    history = [
        {
            "step": 3 * epoch,
            "epoch": float(epoch),
            "gan_loss": epoch / 10,
            "l1_loss": epoch / 10,
            "discriminator_loss": epoch / 10,
            "secs": 60.0,
            "images_per_sec": 12.0,
        }
        for epoch in range(1, epochs + 1)
    ]
    sheets = [np.full((8, 8, 3), 50 * epoch, np.uint8) for epoch in range(1, min(epochs, 4) + 1)]
    urls = embed(sheets, 10**6)
    fields = {
        "name": name,
        "workdir": Path("runs") / name,
        "config": config,
        "record": {
            "data": {"fingerprint": "abc", "counts": {"train": 12, "val": 3}},
            "versions": {"tensorflow": "2.21.0"},
        },
        "steps_per_epoch": 3,
        "history": history,
        "evaluations": {"val": [draw_record(3 * epoch, epoch / 100) for epoch in range(1, epochs + 1)]},
        "steps": [3 * epochs],
        "best_step": 3,
        "samples": [Sample(float(i), f"epoch {i}", url) for i, url in enumerate(urls, start=1)],
        "sample_count": epochs,
        "diagnosis": Diagnosis(3 * epochs, [FINDING], [{"name": "over-fitting", "reason": "too young"}]),
        "why_no_diagnosis": "",
    }
    return Run(**{**fields, **more})


def draw_record(step: int, l1: float) -> dict:
    """A record of `metrics.json`."""
    return {
        "step": step,
        "epoch": step / 3,
        "count": 3,
        "metrics": {"l1": l1, "psnr": 20.0 - step, "kid": 0.001 * step},
    }


def draw_translated(values: dict[str, dict[str, float]], fingerprint: str = "abc", step: int = 12) -> Translated:
    """Pairs of 32x32 by their names, with their scores; what is generated is the input."""
    pairs = []
    for number, (name, scores) in enumerate(values.items()):
        input_image, target = draw_pair(number)
        pairs.append(Pair(name, [input_image], target, input_image, scores))
    return Translated(step, "val", len(pairs), fingerprint, ("input",), (False, False), pairs)


def decoded(url: str) -> np.ndarray:
    """The pixels of a `data:` URL, (H, W, 3)."""
    kind, content = url.split(",", 1)
    assert kind == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(content, validate=True))) as image:
        return np.asarray(image.convert("RGB"))
