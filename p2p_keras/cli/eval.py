"""p2p-eval: scores the checkpoints of a run."""

from pathlib import Path

from absl import flags

from p2p_keras.cli import command
from p2p_keras.config import task_name
from p2p_keras.data.pairs import SPLITS
from p2p_keras.errors import UserError

DOC = """
    p2p-eval scores what a run has learnt: L1, PSNR, SSIM, sharpness difference, FID, KID, Inception Score; of label
    maps pixel accuracy and mean IoU.

      p2p-eval --workdir=runs/a2s                                      the newest checkpoint, on the test split
      p2p-eval --workdir=runs/a2s --checkpoint=all --split=val         curves over the epochs
      p2p-eval --workdir=runs/a2s,runs/s2a --checkpoint=all            both directions in one chart
      p2p-eval --workdir=runs/a2s --checkpoint=all --reference=train   FID and KID against the training targets

    It writes metrics.json, per_image.csv, curves.png and sheet.png to RUN/eval/SPLIT. The Inception network is
    downloaded once; without network the metrics that need it are left out, and the reason stands in their place.
    """

FLAGS = flags.FlagValues()

flags.DEFINE_list("workdir", None, "The run's folder; several, with commas between, share a chart.", flag_values=FLAGS)
flags.DEFINE_string(
    "data_dir", None, "Another data set, or where the run's own lies now. Default: the run's.", flag_values=FLAGS
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
    "an archive, or a URL.",
    flag_values=FLAGS,
)
flags.DEFINE_bool(
    "require_inception", False, "Fail without that network, before anything is scored.", flag_values=FLAGS
)
flags.DEFINE_integer("batch_size", 16, "Images at a time.", flag_values=FLAGS)
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
        from p2p_keras.evaluation.records import remarks, table
        from p2p_keras.evaluation.run import draw_curves, evaluate, open_evaluation
        from p2p_keras.metrics.inception import load_extractor

    data_dir = Path(given["data_dir"]) if given["data_dir"] else None
    panels = tuple(name.strip() for name in given["panels"] or ())
    evaluations = [
        open_evaluation(
            workdir, data_dir, panels, given["split"], given["checkpoint"], given["limit"], given["reference"]
        )
        for workdir in workdirs
    ]
    extractor, reason = None, ""
    blind = [evaluation for evaluation in evaluations if evaluation.pairs.reading.target_kind.labels]
    if blind and given["require_inception"]:
        raise UserError(
            f"--require_inception is for images. The targets of {blind[0].workdir} are label maps. Leave it out."
        )
    try:
        if len(blind) < len(evaluations):
            extractor = load_extractor(given["inception"])
    except UserError as error:
        if given["require_inception"] or given["inception"] != "default":
            raise
        reason = f"there is no Inception network. {error}"

    newest = []
    for evaluation in evaluations:
        records = evaluate(evaluation, extractor, reason, given["batch_size"], given["save_images"])
        newest.append(records[-1])
        count = command.counted(len(evaluation.pairs.files), "image", "images")
        print(f"{evaluation.workdir}: {task_name(evaluation.config)}, {count} of {evaluation.pairs.name}/")
        print(table(records))
        for remark in remarks(records[-1]):
            print(remark)
    curves = draw_curves(evaluations, newest)
    for evaluation, path in zip(evaluations, curves, strict=True):
        print(f"Curves:  {path}")
        print(f"Sheet:   {evaluation.folder / 'sheet.png'}")
        print(f"Numbers: {evaluation.folder / 'metrics.json'}, {evaluation.folder / 'per_image.csv'}")
        if given["save_images"]:
            print(f"Images:  {evaluation.folder / 'images'}")
    return 0


def entry_point() -> None:
    """`p2p-eval`."""
    command.run(main, FLAGS, DOC)


if __name__ == "__main__":
    entry_point()
