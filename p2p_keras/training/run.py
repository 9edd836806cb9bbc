"""The run: what is wired to what, and what happens when. The computing itself is in `step`."""

import collections
import contextlib
import functools
import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import tensorflow as tf

from p2p_keras.config import TrainConfig, best_metric, decay_steps, target_kind, task_name
from p2p_keras.data import pipeline, shifted
from p2p_keras.data.pairs import SPLITS
from p2p_keras.data.unreadable import unreadable_in_words
from p2p_keras.doctor.history import findings
from p2p_keras.doctor.remedies import with_remedy
from p2p_keras.errors import UserError
from p2p_keras.evaluation.records import forget_later
from p2p_keras.system.devices import describe_devices, make_strategy
from p2p_keras.system.files import write_whole
from p2p_keras.system.hosts import Hosts, lost_hosts_in_words, quiet_unless_chief
from p2p_keras.system.urls import store_errors_in_words
from p2p_keras.training.augment import augment_pairs
from p2p_keras.training.best import Standing, judge, value_of
from p2p_keras.training.cadence import is_due, next_due
from p2p_keras.training.cluster import run_folder
from p2p_keras.training.finite import check_losses, check_weights
from p2p_keras.training.recorder import Recorder
from p2p_keras.training.saver import Saver
from p2p_keras.training.start import Run, open_run, to_record
from p2p_keras.training.step import make_train_steps
from p2p_keras.training.stop import dropped_in_background, stop_signals, stop_when_unread
from p2p_keras.training.validation import find_evaluation
from p2p_keras.workdir import checkpoints
from p2p_keras.workdir.history import keep_history, read_history
from p2p_keras.workdir.resolve import Data
from p2p_keras.workdir.resume import complete_save, drop_later_snapshots, set_aside_attempt

SECS_PER_CALL = 1.0  # the step function runs about so long before the loop looks at signals and draws its progress


def train(
    config: TrainConfig,
    workdir: Path,
    strategy: tf.distribute.Strategy | None = None,
    report: Callable[[str], None] = print,
) -> int | None:
    """Trains a run to its end, from the newest checkpoint in its folder or from the start.

    Seeds Python's, NumPy's and TensorFlow's global generators with the run's seed: Keras' initializers draw from them.
    Where the program ends soon after, TensorFlow may need up to a minute more (`dropped_in_background`).

    Args:
        config: What to train. In a folder that already holds a run, it must agree with that run's settings.
        workdir: The run's folder; gets `config.json`, `checkpoints/`, `summaries/`, `samples/`, `history.jsonl`,
            `curves.png`, and `snapshots/` if there are to be any.
        strategy: Where to compute; by default on all visible devices.
        report: Called with each line that a person should read.

    Returns:
        None when the run is finished; the number of the signal (SIGINT, SIGTERM, SIGHUP, or SIGPIPE if nobody reads the
        report any longer) that stopped it after a checkpoint.

    Raises:
        UserError: Settings, data, folder or disk don't allow it, or the losses are no longer finite.
    """
    stop, strategy = [], strategy or make_strategy(report)
    hosts = Hosts(strategy)
    report = quiet_unless_chief(hosts, stop_when_unread(report, stop))
    with (
        lost_hosts_in_words(hosts, f"continues from the newest checkpoint in {workdir} of host 0"),
        run_folder(hosts, Path(workdir)) as workdir,
        _memory_errors_in_words(config, workdir / "checkpoints"),
        store_errors_in_words(),
    ):
        run = open_run(config, workdir, strategy, report)
        if run.first_step == 0:
            set_aside_attempt(workdir, report)
        write_whole(workdir / "config.json", to_record(run))
        if hosts.is_chief and run.first_step:
            is_due_then = is_due(run.first_step, config.checkpoint_every_steps) or run.first_step == run.last_step
            complete_save(
                run.networks.checkpoint, run.checkpoints, run.first_step, run.config.keep_checkpoints, is_due_then
            )
        _report_left_out(run.data, report)
        if run.first_step >= run.last_step:
            report(f"This run is finished: {run.first_step} of {run.last_step} steps are done.")
            _report_outcome(run)
            return None
        if not run.first_step:
            for panel in run.data.reading.input_panels:
                shifted.report_misaligned(run.data.pairs, (panel, run.data.reading.target_panel), report)
        keep_history(workdir, run.first_step, run.first_step // run.steps_per_epoch, report)
        forget_later(workdir, run.first_step, report)
        exhausted = _exhaustion(run, _standing(run))
        if hosts.agree([bool(exhausted)])[0, 0]:
            report(f"This run is finished: {exhausted} A higher --patience continues it.")
            _report_outcome(run)
            return None
        drop_later_snapshots(workdir, run.first_step, lambda step: _is_snapshot_due(run, step), report)
        for line in describe_devices():
            report(line)
        parts = f" in {run.config.accumulate} parts" if run.config.accumulate > 1 else ""
        report(
            f"{task_name(run.config)}: {len(run.data.pairs.splits['train'])} training pairs at "
            f"{run.config.image_size}, batch {run.config.batch_size}{parts} "
            f"in {run.config.precision} on {run.strategy.num_replicas_in_sync} device(s)"
            f"{f' of {hosts.count} hosts' if hosts.count > 1 else ''}, "
            f"steps {run.first_step + 1} to {run.last_step}, {run.steps_per_epoch} an epoch"
        )
        read = [run.data.pairs.files(split) for split in SPLITS if run.data.pairs.splits[split]]
        with unreadable_in_words(read, run.data.reading):
            stopped_by = _train(run, stop)
        _report_outcome(run)
        if stopped_by is None:
            folder = shlex.quote(str(workdir))
            run.report(f"Next:       p2p-report --workdir={folder} for a page, p2p-demo --model={folder} to try it")
        return stopped_by


def _train(run: Run, stop: list[int]) -> int | None:
    """The outer loop. Returns the number of the signal that stopped it."""
    config, networks, steps_per_epoch = run.config, run.networks, run.steps_per_epoch
    train_steps = make_train_steps(
        run.strategy,
        *networks.trained,
        config.lambda_l1,
        networks.step,
        config.jit_compile,
        config.accumulate,
        networks.average,
        config.ema_decay,
        functools.partial(augment_pairs, target_kind=target_kind(config)) if config.diffaugment else None,
        config.dropout,
    )
    held = [_batches(run)]
    recorder = Recorder(
        run.workdir, config, networks.loss_sums.numpy(), run.first_step, steps_per_epoch, run.last_step, run.report
    )
    saver = Saver(config, networks, decay_steps(config, steps_per_epoch), run.checkpoints)
    step, exhausted = run.first_step, ""
    with recorder, stop_signals(stop), saver, dropped_in_background(held):
        steps_per_call, stopped_by, ended = _agree(run, 1, exhausted, stop)
        while step < run.last_step and not ended:
            until = min(
                step + steps_per_call,
                next_due(step, steps_per_epoch),
                next_due(step, config.checkpoint_every_steps),
                run.last_step,
            )
            started = time.monotonic()
            losses = train_steps(held[0], tf.constant(until - step)).numpy()
            secs = time.monotonic() - started
            check_losses(losses, step, run.checkpoints, saver)
            saver.check()
            recorder.add_losses(step, losses, secs)
            step = until

            if is_due(step, steps_per_epoch) or step == run.last_step or recorder.wants_first_samples():
                check_weights(networks, step, run.checkpoints, saver)
            evaluation = None
            if run.validate and is_due(step, config.eval_every_epochs * steps_per_epoch):
                evaluation = run.validate(step)
            if is_due(step, steps_per_epoch) or step == run.last_step:
                recorder.end_epoch(step, evaluation)
            if run.draw_samples and (
                is_due(step, config.samples_every_epochs * steps_per_epoch) or step == run.last_step
            ):
                recorder.add_samples(step, run.draw_samples())
            elif run.draw_samples and recorder.wants_first_samples():
                recorder.add_first_samples(step, run.draw_samples())
            networks.loss_sums.assign(recorder.loss_sums)
            is_best = False
            if evaluation:  # last: from the best checkpoint, too, a run continues, with all of this done
                saver.wait()  # the standing is found by what is kept
                is_best, exhausted = _judge(run, step)
            due, snapshot = saver.is_due(step), _is_snapshot_due(run, step)
            if run.hosts.is_chief and (is_best or due or snapshot):
                saver.save(step, is_best, due, snapshot)
            wanted = max(1, round(SECS_PER_CALL * len(losses) / secs))
            steps_per_call, stopped_by, ended = _agree(run, wanted, exhausted, stop)
        if run.hosts.is_chief and step > run.first_step and saver.step != step:  # at the end, or stopped between
            saver.save(step)
    run.hosts.agree([step])  # the others wait here until the chief has written
    if exhausted:
        run.report(f"Finished at step {step}: {exhausted}")
    elif step < run.last_step:
        run.report(
            f"Stopped at step {step} of {run.last_step}. The same command continues from the checkpoint named below."
        )
        return stopped_by or None
    return None


def _agree(run: Run, wanted: int, exhausted: str, stop: list[int]) -> tuple[int, int, bool]:
    """Makes of what one host's clock, scores and signals say something that all hosts do.

    Returns:
        Steps until the next time; the number of the signal that stops the run, 0 for none; whether it ends here.
    """
    said = run.hosts.agree([wanted, bool(exhausted), stop[0] if stop else 0])
    stopped_by = int(said[:, 2].max())
    return int(said[0, 0]), stopped_by, bool(said[0, 1] or stopped_by)


@contextlib.contextmanager
def _memory_errors_in_words(config: TrainConfig, directory: Path) -> Iterator[None]:
    try:
        yield
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        saved = checkpoints.all_steps(directory)
        raise UserError(
            f"A step of {config.batch_size} pairs in {config.accumulate} part(s) must fit into the device's memory. It "
            "ran out. "
            + (f"The checkpoint of step {saved[-1]} is kept; in another --workdir take " if saved else "Take ")
            + f"--accumulate={2 * config.accumulate}, --precision=bfloat16, a lower --batch_size, --image_size or "
            "--base_filters. --estimate_memory shows which batch sizes fit."
        ) from error


def _batches(run: Run) -> tf.data.Iterator:
    """Of the steps that are left, shared out over the replicas."""
    hosts, replicas = run.hosts, run.strategy.num_replicas_in_sync

    def batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        return pipeline.training_dataset(
            run.data.pairs.files("train"),
            run.data.reading,
            run.config.batch_size,
            run.config.seed,
            run.first_step,
            run.last_step,
            pipeline.Share(hosts.index, hosts.count, replicas // hosts.count),
        )

    return iter(run.strategy.distribute_datasets_from_function(batches))


def _is_snapshot_due(run: Run, step: int) -> bool:
    return step <= run.last_step and is_due(step, run.config.snapshot_every_epochs * run.steps_per_epoch)


def _judge(run: Run, step: int) -> tuple[bool, str]:
    """Whether a step that was just scored is the best, and in what words patience has run out; empty if it has not."""
    standing = _standing(run)
    is_best = standing.best is not None and standing.best["step"] == step
    if is_best and standing.anew:
        run.report(
            f"The best is looked for anew from step {step} on: the one of step {standing.anew} was judged by other "
            "images or another network, or nothing is known of it."
        )
    return is_best, _exhaustion(run, standing)


def _standing(run: Run) -> Standing:
    history, kept = read_history(run.workdir), checkpoints.list_steps(checkpoints.best_of(run.checkpoints))
    kept_step = kept[-1] if kept else None
    if kept and all(record["step"] != kept_step for record in history):  # history.jsonl was lost, or its end
        history = sorted([*history, *find_evaluation(run.workdir, kept_step)], key=lambda record: record["step"])
    return judge(history, best_metric(run.config), kept_step)


def _exhaustion(run: Run, standing: Standing) -> str:
    """In what words patience has run out; empty if it has not."""
    if not 0 < run.config.patience <= standing.since:
        return ""
    metric = best_metric(run.config)
    return (
        f"{metric} has not improved in {standing.since} evaluations. "
        f"It was best at step {standing.best['step']}, {value_of(standing.best, metric):.4g}."
    )


def _report_left_out(data: Data, report: Callable[[str], None]) -> None:
    for name, problem in data.bad.items():
        report(f"Left out {name}: {problem}")
    for why, count in collections.Counter(data.pairs.ignored.values()).items():
        first = next(name for name, reason in data.pairs.ignored.items() if reason == why)
        report(f"Left out {count} file{'s' if count > 1 else ''}, for example {first}: {why}")


def _report_outcome(run: Run) -> None:
    steps, best = checkpoints.all_steps(run.checkpoints), checkpoints.best_of(run.checkpoints)
    newest = best if steps and steps[-1] not in checkpoints.list_steps(run.checkpoints) else run.checkpoints
    run.report(f"Samples:    {run.workdir / 'samples'}")
    run.report(f"Curves:     {run.workdir / 'curves.png'} (and TensorBoard: {run.workdir / 'summaries'})")
    run.report(f"Checkpoint: {checkpoints.path_of(newest, steps[-1]) if steps else 'none yet'}")
    for step in checkpoints.list_steps(best):
        run.report(f"Best:       {checkpoints.path_of(best, step)}")
    snapshots = checkpoints.snapshots_of(run.checkpoints)
    if count := len(checkpoints.list_steps(snapshots)):
        run.report(f"Snapshots:  {count} in {snapshots}")
    found = findings(read_history(run.workdir))
    for finding in found:
        run.report(f"Doctor:     {with_remedy(finding, run.config).in_one_line}")
    if found:
        run.report(f"Doctor:     p2p-doctor --workdir={run.workdir} looks at the pictures as well")
