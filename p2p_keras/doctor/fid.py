"""Whether there are enough pictures behind an FID. No TensorFlow."""

import re

from p2p_keras.doctor.outcomes import Finding, Outcome, Skipped
from p2p_keras.metrics.table import split_label

NAME = "few pictures for FID"
_WIDTH = re.compile("(@[0-9]{1,9})?")  # as a metric's name has the number of features
_STANDARD_WIDTH = 2048  # features of the extractor whose number stands in no metric's name


def check_count(metrics: dict[str, object], count: int) -> Outcome:
    """Compares the number of pictures with that of the features: with fewer, the covariance that FID takes is singular.

    Args:
        metrics: What was scored, under the names of `metrics.json`: `fid`, or `fid@768` of 768 features.
        count: Of the generated or of the reference pictures, the fewer.
    """
    labels = [label for base, label in map(split_label, metrics) if base == "fid" and _WIDTH.fullmatch(label)]
    if not labels:
        return Skipped(NAME, "no evaluation has an FID: p2p-eval, or --eval_every_epochs with --inception")
    width = int(labels[0].removeprefix("@") or _STANDARD_WIDTH)
    if count >= width:
        return None
    return Finding(
        NAME,
        f"FID{labels[0]} is of {count:,} pictures and {width:,} features",
        "FID of so few is too high, and the more so the fewer: it compares runs on these very pictures, and with no "
        "published figure.",
    )
