"""The one table of metrics: what each is called, which way is better, how it is shown, and for which targets it is.

A metric of an extractor with other than 2048 features carries their number in its name, as `kid@768`: `split_label`.
"""

from collections.abc import Callable
from typing import NamedTuple

from p2p_keras.metrics import labels, paired

FEWEST_IMAGES = 4  # of which FID and KID are computed: KID halves them, and compares pairs
INCEPTION_SCORE_PARTS = 10  # customary for the Inception Score (Salimans et al. 2016, appendix)


class Metric(NamedTuple):
    """A line of the table.

    Attributes:
        name: In `metrics.json`, `history.jsonl` and `--best_metric`.
        title: Heads its column.
        chart_title: Heads its panel in charts; empty if it has none.
        higher_is_better: Or lower.
        decimals: Shown in tables.
        of_images: Of generated and reference images, a number for each pair; None if it is not such a metric.
        of_label_maps: The same of confusion matrices.
        inception: Needs the extractor: then it is of all images together.
        count: Images that it needs at least.
        scale: Tables, charts and the terminal show it times this.
        live: Shown in the terminal while training.
        decides: May say which checkpoint is the best.
    """

    name: str
    title: str
    chart_title: str
    higher_is_better: bool
    decimals: int
    of_images: Callable | None = None
    of_label_maps: Callable | None = None
    inception: bool = False
    count: int = 1
    scale: int = 1
    live: bool = False
    decides: bool = True

    def heading(self, title: str, label: str) -> str:
        """A title with the label and the scale that belong to the numbers beneath: `KID@768 x1000`."""
        return f"{title}{label}{f' x{self.scale}' if self.scale > 1 else ''}"


METRICS = (
    Metric("l1", "L1", "L1, [-1, 1]", False, 4, paired.l1, labels.l1, live=True),
    Metric("psnr", "PSNR", "PSNR, dB", True, 2, paired.psnr, live=True),
    Metric("ssim", "SSIM", "SSIM", True, 4, paired.ssim, live=True),
    Metric("sharpness_difference", "SD", "Sharpness diff., dB", True, 2, paired.sharpness_difference),
    Metric("pixel_accuracy", "accuracy", "Pixel accuracy", True, 4, None, labels.pixel_accuracy),
    Metric("mean_iou", "mIoU", "Mean IoU", True, 4, None, labels.mean_iou, live=True),
    Metric("crossview_psnr", "PSNR(xv)", "", True, 2, paired.crossview_psnr, decides=False),
    Metric("crossview_ssim", "SSIM(xv)", "", True, 4, paired.crossview_ssim, decides=False),
    Metric(
        "crossview_sharpness_difference", "SD(xv)", "", True, 2, paired.crossview_sharpness_difference, decides=False
    ),
    Metric("fid", "FID", "FID", False, 3, inception=True, count=FEWEST_IMAGES, live=True),
    Metric("kid", "KID", "KID", False, 2, inception=True, count=FEWEST_IMAGES, scale=1000, live=True),
    Metric("inception_score", "IS", "Inception Score", True, 2, inception=True, count=INCEPTION_SCORE_PARTS),
)
BY_NAME = {metric.name: metric for metric in METRICS}


def split_label(name: str) -> tuple[str, str]:
    """`kid@768` -> `kid`, `@768`; `kid` -> `kid`, an empty label."""
    base, at, width = name.partition("@")
    return base, at + width


def in_order(names: set[str]) -> list[str]:
    """Names as `kid@768` whose metrics are in the table, in its order; spreads as `kid_std` are left out."""
    return [name for metric in METRICS for name in sorted(names) if split_label(name)[0] == metric.name]
