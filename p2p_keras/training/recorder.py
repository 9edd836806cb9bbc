"""What a run writes for people while it trains: the terminal, `history.jsonl`, TensorBoard, sample grids, curves."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from p2p_keras.config import TrainConfig
from p2p_keras.doctor.history import ever_found, findings
from p2p_keras.doctor.remedies import with_remedy
from p2p_keras.images import charts
from p2p_keras.images.files import write_png
from p2p_keras.metrics.table import BY_NAME, in_order, split_label
from p2p_keras.system.progress import ProgressLine, duration, rough_duration
from p2p_keras.training import summaries
from p2p_keras.training.cadence import is_due
from p2p_keras.training.step import LOSS_NAMES
from p2p_keras.workdir.folder import settings_of, show
from p2p_keras.workdir.history import append_history, read_history

SCALARS_EVERY_STEPS = 20
FORECAST_AFTER_SECS = 10.0  # of training, so that the first steps' unsteadiness is lost in them
FIRST_SAMPLES_AFTER_SECS = 60.0


class Recorder:
    """Keeps the sums behind an epoch's means, and writes.

    What depends on the clock, the forecast and the first samples, is for whoever watches: nothing is computed from it.

    Args:
        workdir: The run's folder.
        config: The run's settings.
        loss_sums: float64 (4,): sums of the epoch so far, from the checkpoint.
        first_step: Steps already done.
        steps_per_epoch: Steps in an epoch.
        last_step: Steps in the whole run.
        report: Called with one line for each epoch.
    """

    def __init__(
        self,
        workdir: Path,
        config: TrainConfig,
        loss_sums: np.ndarray,
        first_step: int,
        steps_per_epoch: int,
        last_step: int,
        report: Callable[[str], None],
    ) -> None:
        self.loss_sums = np.array(loss_sums, np.float64)
        self._workdir, self._config, self._steps_per_epoch = workdir, config, steps_per_epoch
        self._epochs, self._report = last_step / steps_per_epoch, report
        self._timed_steps, self._timed_secs, self._calls = 0, 0.0, 0
        self._epoch_started = self._started = time.monotonic()
        self._is_new, self._foretold = first_step == 0, False
        (workdir / "samples").mkdir(exist_ok=True)
        self._history = read_history(workdir)
        self._said = ever_found(self._history)
        self._has_samples = any((workdir / "samples").iterdir())
        self._writer = tf.summary.create_file_writer(str(workdir / "summaries"))
        summaries.write_settings(self._writer, first_step, _plain_settings(config))
        self._progress = ProgressLine(last_step * config.batch_size, "images", first_step * config.batch_size)

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.clear()
        self._writer.close()

    def add_losses(self, done_steps: int, losses: np.ndarray, secs: float) -> None:
        """Takes in the losses (steps, 4) of the steps after `done_steps`, which took `secs` seconds."""
        for step, row in enumerate(losses, start=done_steps + 1):
            self.loss_sums += row  # one by one, so that the sum does not depend on how many steps a call takes
            if is_due(step, SCALARS_EVERY_STEPS):
                summaries.write_scalars(self._writer, step, dict(zip(LOSS_NAMES, row, strict=True)))
        self._calls += 1
        if self._calls == 1:  # the first call also traces the step function, so its time says nothing
            return
        self._timed_steps += len(losses)
        self._timed_secs += secs
        _, gan, l1, discriminator = losses[-1]
        self._progress.update(
            step * self._config.batch_size,
            f"GAN {gan:.3f}  L1 {l1:.4f}  D {discriminator:.3f}",
            rate=len(losses) * self._config.batch_size / secs,
        )
        if not self._foretold and self._timed_secs >= FORECAST_AFTER_SECS:
            self._foretold = True
            self._progress.clear()
            self._report(self._forecast(step))

    def end_epoch(self, step: int, evaluation: dict | None = None) -> None:
        """Writes the epoch's means, also for a last epoch that the run's length cuts short, and what it scored.

        What is wrong by the history is said when it appears: the history knows what was said before a restart.
        """
        done = (step - 1) % self._steps_per_epoch + 1
        now = time.monotonic()
        record = {
            "step": step,
            "epoch": step / self._steps_per_epoch,
            **dict(zip(LOSS_NAMES, (self.loss_sums / done).tolist(), strict=True)),
            "images_per_sec": self._pace() if self._timed_steps else None,
            "secs": now - self._epoch_started,
        }
        if evaluation:
            record["evaluation"] = evaluation
            scores = {name: value for name, value in evaluation.items() if isinstance(value, float)}
            tags = {f"{evaluation['split']}/{name}": value for name, value in scores.items()}
            summaries.write_scalars(self._writer, step, tags)
        append_history(self._workdir, record)
        self._history.append(record)
        self._progress.clear()
        self._foretold = True  # by the line's own "left"
        self._report(self._line(record))
        for finding in findings(self._history):
            if finding.name not in self._said:
                self._report(f"Doctor: {with_remedy(finding, self._config).in_one_line}")
                self._said.add(finding.name)
        self._timed_steps, self._timed_secs, self._epoch_started = 0, 0.0, now
        if is_due(step, self._steps_per_epoch):
            self.loss_sums[:] = 0.0

    def add_samples(self, step: int, image: np.ndarray) -> None:
        """Writes a grid as `samples/epoch_0001.png` and to TensorBoard, and draws the curves anew."""
        epoch = math.ceil(step / self._steps_per_epoch)
        self._write_samples(step, f"epoch_{epoch:04d}.png", image)
        charts.training_curves(self._history, self._workdir / "curves.png")

    def wants_first_samples(self) -> bool:
        """Whether the run has gone on for a minute without any grid, so that it is time for a first one."""
        return not self._has_samples and time.monotonic() - self._started >= FIRST_SAMPLES_AFTER_SECS

    def add_first_samples(self, step: int, image: np.ndarray) -> None:
        """Writes a grid between epochs as `samples/step_00000040.png`, and says so."""
        self._progress.clear()
        self._report(f"First samples, after step {step}: {self._write_samples(step, f'step_{step:08d}.png', image)}")

    def _write_samples(self, step: int, name: str, image: np.ndarray) -> Path:
        path = self._workdir / "samples" / name
        write_png(path, image)
        summaries.write_image(self._writer, step, "samples", image)
        self._has_samples = True
        return path

    def _pace(self) -> float:
        """Images a second, of the steps that were timed in this epoch."""
        return self._timed_steps * self._config.batch_size / self._timed_secs

    def _forecast(self, step: int) -> str:
        """How long the rest takes, by the steps that were timed so far."""
        rate = self._pace()
        left, whole = self._epochs - step / self._steps_per_epoch, round(self._epochs, 2)
        epochs = f"{whole:g} epochs" if self._is_new else f"The {left:.3g} epochs left of {whole:g}"
        secs = left * self._steps_per_epoch * self._config.batch_size / rate
        return f"{epochs}: about {rough_duration(secs)} here, at {rate:.3g} images/s"

    def _line(self, record: dict) -> str:
        rate = f"{record['images_per_sec']:.1f} images/s" if record["images_per_sec"] else ""
        left = duration(record["secs"] * (self._epochs - record["epoch"]))
        losses = "GAN {gan_loss:.3f}  L1 {l1_loss:.4f}  discriminator {discriminator_loss:.3f}".format(**record)
        epoch = f"epoch {round(record['epoch'], 2):g}/{round(self._epochs, 2):g}"
        return f"{epoch}  {losses}  {rate}  {left} left{_scores(record)}"


def _plain_settings(config: TrainConfig) -> dict[str, bool | float | str]:
    """Those that are given, as a table can have them."""
    given = {name: value for name, value in settings_of(config).items() if value not in (None, "", ())}
    texts = {name: show(config, name).encode("utf-8", "backslashreplace").decode() for name in given}
    return {name: value if type(value) in (bool, int, float) else texts[name] for name, value in given.items()}


def _scores(record: dict) -> str:
    if "evaluation" not in record:
        return ""
    shown = []
    for name in in_order(set(record["evaluation"])):
        metric, label = BY_NAME[split_label(name)[0]], split_label(name)[1]
        if metric.live:
            value = metric.scale * record["evaluation"][name]
            shown.append(f"{metric.heading(metric.title, label)} {value:#.4g}")
    return f"\n    {record['evaluation']['split']}: " + "  ".join(shown)
