"""Whether a run waits for its pairs: the input pipeline alone, against the run."""

import time
from collections.abc import Iterator, Sequence

from p2p_keras.config import TrainConfig
from p2p_keras.data.pipeline import training_dataset
from p2p_keras.doctor.outcomes import Finding, Outcome, Skipped
from p2p_keras.workdir.resolve import Data

NAME = "starved input"
# Of the pipeline's pace to the run's. Where both share a CPU it is (computing + reading) / reading: below it, reading
# takes four fifths of the time. Beside a GPU it is at least 1 where the run waits.
STARVED = 1.25
ELSEWHERE = 0.8  # of the same: no run is faster than its pipeline, so this is another machine, or a busier one
_SECS, _MOST_SECS = 3.0, 20.0  # that are timed; the second where a batch takes long
_MOST_STEPS = 1_000_000


def check_speed(alone: float, history: Sequence[dict]) -> Outcome:
    """Compares the input pipeline alone with the run.

    Args:
        alone: Pairs a second of the pipeline, computing nothing.
        history: The run's records.
    """
    rates = sorted(record["images_per_sec"] for record in history[-10:] if record.get("images_per_sec"))
    if not rates:
        return Skipped(NAME, "no epoch of the history has its pace")
    rate = rates[len(rates) // 2]
    if alone >= STARVED * rate:
        return None
    if alone < ELSEWHERE * rate:
        return Skipped(
            NAME,
            f"the run trained on {rate:.3g} pairs/s, and the input pipeline alone reads {alone:.3g} here and now: look "
            "again where the run trained, with nothing beside",
        )
    return Finding(
        NAME,
        f"the input pipeline alone reads {alone:.3g} pairs/s here and now, the run trained on {rate:.3g}",
        "The step waits for files that are read, decoded and resized: a faster device would change nothing.",
    )


def measure_pipeline(config: TrainConfig, data: Data) -> float:
    """Times the training pipeline for about three seconds, without any network: pairs a second."""
    batches = iter(
        training_dataset(data.pairs.files("train"), data.reading, config.batch_size, config.seed, 0, _MOST_STEPS)
    )
    return config.batch_size * _rate(batches)


def _rate(batches: Iterator) -> float:
    """Batches a second, after the first two, which were read ahead."""
    started, count = time.monotonic(), 0
    while (secs := time.monotonic() - started) < _MOST_SECS and (secs < _SECS or count < 6):
        if count == 2:
            warm = time.monotonic()
        next(batches)
        count += 1
    return (count - 2) / (time.monotonic() - warm) if count > 2 else count / secs
