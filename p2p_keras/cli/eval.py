"""p2p-eval: scores the checkpoints of a run."""

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from p2p_keras.cli import command
from p2p_keras.config import task_name
from p2p_keras.data.pairs import SPLITS
from p2p_keras.errors import UserError
from p2p_keras.system.urls import store_errors_in_words, to_folder

if TYPE_CHECKING:
    from p2p_keras.evaluation.run import Evaluation
    from p2p_keras.metrics.inception import Extractor
    from p2p_keras.system.hosts import Hosts

DOC = """
    p2p-eval scores what a run has learnt: L1, PSNR, SSIM, sharpness difference, FID, KID, Inception Score; of label
    maps pixel accuracy and mean IoU.

      p2p-eval --workdir=runs/a2s                                      the newest checkpoint, on the test split
      p2p-eval --workdir=runs/a2s --checkpoint=all --split=val         curves over the epochs
      p2p-eval --workdir=runs/a2s,runs/s2a --checkpoint=all            both directions in one chart
      p2p-eval --workdir=runs/a2s --checkpoint=all --reference=train   FID and KID against the training targets

    It writes metrics.json, per_image.csv, curves.png and sheet.png to RUN/eval/SPLIT. The Inception network is
    downloaded once; without network the metrics that need it are left out, and the reason stands in their place.

    All GPUs compute. With TF_CONFIG, as in docs/clusters.md, all hosts do: the same command on each.
    """

FLAGS = flags.FlagValues()

flags.DEFINE_list("workdir", None, "The run's folder; several, with commas between, share a chart.", flag_values=FLAGS)
flags.DEFINE_string(
    "data_dir",
    None,
    "Another data set, or where the run's own lies now, or its URL. Default: the run's.",
    flag_values=FLAGS,
)
flags.DEFINE_list(
    "panels",
    None,
    "What the panels of that data set show, left to right. Default: its dataset.json, else as in the run.",
    flag_values=FLAGS,
)
flags.DEFINE_enum("split", "test", SPLITS, "Which pairs.", flag_values=FLAGS)
flags.DEFINE_string("checkpoint", "latest", "latest, best, all, or a step; snapshots count.", flag_values=FLAGS)
flags.DEFINE_enum(
    "reference",
    None,
    SPLITS,
    "FID and KID compare with all targets of this split, as the report does with those of train. Default: with the "
    "scored pairs' own.",
    flag_values=FLAGS,
)
flags.DEFINE_string(
    "inception",
    "default",
    "The network behind FID, KID and Inception Score: default, which is the Inception of 2015-12-05 that "
    "tensorflow-gan uses, downloaded once; or a SavedModel with output pool_3 and perhaps logits, a frozen graph .pb, "
    "an archive, or a URL. --inception= is without.",
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "require_inception", False, "Fail without that network, before anything is scored.", flag_values=FLAGS
)
flags.DEFINE_integer("batch_size", 16, "Images at a time on a device.", flag_values=FLAGS)
flags.DEFINE_integer("limit", None, "Score at most this many images, spread evenly over the split.", flag_values=FLAGS)
flags.DEFINE_bool(
    "save_images",
    False,
    "Also write every generated image, under its source's name, as PNG of the target's kind.",
    flag_values=FLAGS,
)


def main(values: flags.FlagValues) -> int:
    """Scores; returns the exit status."""
    given = {name: values[name].value for name in values if name not in ("help", "h", "version")}
    if not given["workdir"]:
        raise UserError("--workdir names the folder of a run, as p2p-train wrote it. Received none. For one: runs/a2s")
    for name in ("batch_size", "limit"):
        if given[name] is not None and given[name] < 1:
            raise UserError(f"--{name} must be at least 1. Received: {given[name]}")
    workdirs = [command.run_folder(name) for name in given["workdir"]]

    with command.quiet_start():  # and here, so that --help and a typo don't wait for TensorFlow
        from p2p_keras.system.devices import local_devices, make_strategy
        from p2p_keras.system.hosts import ALONE, Hosts, cluster_resolver, lost_hosts_in_words, quiet_unless_chief

        strategy = make_strategy() if cluster_resolver() else None
    hosts = Hosts(strategy) if strategy else ALONE
    if hosts.count > 1 and given["save_images"]:
        raise UserError("--save_images writes on one host. Received it on several: unset TF_CONFIG, or leave it out.")
    _, *others = local_devices(strategy)
    with contextlib.ExitStack() as stack:
        stack.enter_context(lost_hosts_in_words(hosts, "scores once more"))
        stack.enter_context(store_errors_in_words())
        scratch = None
        if not hosts.is_chief:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="p2p-eval-")))
        _score(given, workdirs, hosts, others, scratch, quiet_unless_chief(hosts, print))
    return 0


def _score(
    given: dict,
    workdirs: list[Path],
    hosts: "Hosts",
    others: list[str],
    scratch: Path | None,
    report: Callable[[str], None],
) -> None:
    """On this host, and its other devices than the first."""
    from p2p_keras.evaluation.run import draw_curves, evaluate, open_evaluation
    from p2p_keras.evaluation.words import remarks, table

    hosts.check_alike({"how many runs --workdir names": len(workdirs)})  # or they would not meet at the same points
    data_dir = to_folder(given["data_dir"]) if given["data_dir"] else None
    panels = tuple(name.strip() for name in given["panels"] or ())
    chosen = (given["split"], given["checkpoint"], given["limit"], given["reference"])
    evaluations = [
        open_evaluation(workdir, data_dir, panels, *chosen, report, hosts, scratch and scratch / str(number))
        for number, workdir in enumerate(workdirs)
    ]
    extractors, reason = _load_extractors(given, evaluations, [None, *others], report)
    extractor, elsewhere = extractors.pop(None), extractors
    newest = []
    for evaluation in evaluations:
        records = evaluate(evaluation, extractor, reason, given["batch_size"], given["save_images"], report, elsewhere)
        if not records:  # another host than the chief
            continue
        newest.append(records[-1])
        count = command.counted(len(evaluation.pairs.files), "image", "images")
        report(f"{evaluation.workdir}: {task_name(evaluation.config)}, {count} of {evaluation.pairs.name}/")
        report(table(records))
        for remark in remarks(records[-1]):
            report(remark)
    if not newest:
        return
    curves = draw_curves(evaluations, newest)
    for evaluation, path in zip(evaluations, curves, strict=True):
        report(f"Curves:  {path}")
        report(f"Sheet:   {evaluation.folder / 'sheet.png'}")
        report(f"Numbers: {evaluation.folder / 'metrics.json'}, {evaluation.folder / 'per_image.csv'}")
        if given["save_images"]:
            report(f"Images:  {evaluation.folder / 'images'}")


def _load_extractors(
    given: dict, evaluations: Sequence["Evaluation"], devices: list[str | None], report: Callable[[str], None]
) -> tuple[dict[str | None, "Extractor | None"], str]:
    """One on each device, as far as any evaluation needs them, or the reason why there is none."""
    import tensorflow as tf

    from p2p_keras.metrics.inception import load_extractor

    blind = [evaluation for evaluation in evaluations if evaluation.pairs.reading.target_kind.labels]
    if blind and given["require_inception"]:
        raise UserError(
            f"--require_inception is for images. The targets of {blind[0].workdir} are label maps. Leave it out."
        )
    none = dict.fromkeys(devices)
    if len(blind) == len(evaluations):
        return none, ""
    if not given["inception"].strip():
        if given["require_inception"]:
            raise UserError("--require_inception is not for --inception=, which is without. Leave out one of them.")
        return none, "there is no Inception network, by --inception="
    loaded = {}
    try:
        for device in devices:
            with tf.device(device):  # or all of them would compute where the first one lies
                loaded[device] = load_extractor(given["inception"], report)
    except UserError as error:
        if given["require_inception"] or given["inception"] != "default":
            raise
        return none, f"there is no Inception network. {error}"
    return loaded, ""


def entry_point() -> None:
    """`p2p-eval`."""
    command.run(main, FLAGS, DOC)


if __name__ == "__main__":
    entry_point()
