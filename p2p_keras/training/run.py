"""The run: what is wired to what, and what happens when. The computing itself is in `trainer`."""

import collections
import contextlib
import dataclasses
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from p2p_keras.config import TrainConfig, best_metric, check_resume, decay_steps, to_json, total_steps
from p2p_keras.data import check, pipeline
from p2p_keras.data.pairs import Pairs, fingerprint
from p2p_keras.errors import UserError
from p2p_keras.models import make_inference
from p2p_keras.system.devices import make_strategy
from p2p_keras.system.files import write_whole
from p2p_keras.training.cadence import is_due, next_due
from p2p_keras.training.networks import Networks, build_networks
from p2p_keras.training.recorder import Recorder
from p2p_keras.training.samples import make_sampler
from p2p_keras.training.step import LOSS_NAMES, make_train_steps
from p2p_keras.training.validation import best_record, is_exhausted, make_validation, value_of
from p2p_keras.versions import versions
from p2p_keras.workdir import checkpoints
from p2p_keras.workdir.folder import locked, saved_run
from p2p_keras.workdir.history import keep_history, read_history
from p2p_keras.workdir.resolve import Data, settle

SECS_PER_CALL = 1.0  # the step function runs about so long before the loop looks at signals and draws its progress


def train(
    config: TrainConfig,
    workdir: Path,
    strategy: tf.distribute.Strategy | None = None,
    report: Callable[[str], None] = print,
) -> int | None:
    """Trains a run to its end, from the newest checkpoint in its folder or from the start.

    Seeds Python's, NumPy's and TensorFlow's global generators with the run's seed: Keras' initializers draw from them.

    Args:
        config: What to train. In a folder that already holds a run, it must agree with that run's settings.
        workdir: The run's folder; gets `config.json`, `checkpoints/`, `summaries/`, `samples/`, `history.jsonl`,
            `curves.png`.
        strategy: Where to compute; by default on all visible devices.
        report: Told what a person wants to read, line by line.

    Returns:
        None when the run is finished; the number of the signal (SIGINT or SIGTERM) that stopped it after a checkpoint.

    Raises:
        UserError: Settings, data, folder or disk don't allow it, or the losses are no longer finite.
    """
    workdir = Path(workdir)
    with locked(workdir):
        saved, record = saved_run(workdir) or (None, {})
        config, data = settle(config, saved, workdir, report)
        strategy = strategy or make_strategy()
        count = len(data.pairs.splits["train"])
        _check_batch(config.batch_size, count, strategy.num_replicas_in_sync)
        steps_per_epoch = count // config.batch_size
        last_step = total_steps(config, steps_per_epoch)

        done = max(checkpoints.list_steps(workdir / "checkpoints"), default=0)
        if saved and done:  # before the first checkpoint nothing is bound yet
            _check_data(record, fingerprint(data.pairs), data.pairs.root)
            check_resume(saved, config, done, steps_per_epoch)
        networks = build_networks(config, strategy, last_step, decay_steps(config, steps_per_epoch))
        first_step = checkpoints.restore_newest(networks.checkpoint, workdir / "checkpoints", report) or 0
        generate, validate = make_inference(networks.generator), None
        if config.eval_every_epochs and first_step < last_step:
            validate = make_validation(config, generate, data, workdir, steps_per_epoch, report)
        write_whole(workdir / "config.json", _record(config, data.pairs))

        for name, problem in data.bad.items():
            report(f"Left out {name}: {problem}")
        for why, count in collections.Counter(data.pairs.ignored.values()).items():
            first = next(name for name, reason in data.pairs.ignored.items() if reason == why)
            report(f"Left out {count} file{'s' if count > 1 else ''}, as {first}: {why}")
        if first_step >= last_step:
            report(f"This run is finished: {first_step} of {last_step} steps are done.")
            _report_outcome(workdir, report)
            return None
        keep_history(workdir, first_step)
        if _is_exhausted(config, workdir):
            report("This run is finished: " + _exhaustion(config, workdir) + " A higher --patience continues it.")
            _report_outcome(workdir, report)
            return None
        report(
            f"{config.direction}: {count} training pairs at {config.image_size}x{config.image_size}, batch "
            f"{config.batch_size} in {config.precision} on {strategy.num_replicas_in_sync} device(s), "
            f"steps {first_step + 1} to {last_step}, {steps_per_epoch} an epoch"
        )
        draw_samples = make_sampler(generate, data.pairs, data.reading, report)
        stopped_by = _loop(
            config, workdir, strategy, networks, data, draw_samples, validate, steps_per_epoch, last_step, report
        )
        _report_outcome(workdir, report)
        return stopped_by


def _loop(
    config: TrainConfig,
    workdir: Path,
    strategy: tf.distribute.Strategy,
    networks: Networks,
    data: Data,
    draw_samples: Callable[[], np.ndarray],
    validate: Callable[[int], dict] | None,
    steps_per_epoch: int,
    last_step: int,
    report: Callable[[str], None],
) -> int | None:
    first_step, steps_per_call = int(networks.step.numpy()), 1
    step = first_step
    train_steps = make_train_steps(strategy, *networks[:4], config.lambda_l1, networks.step)
    files = data.pairs.files("train")
    batches = pipeline.training_dataset(files, data.reading, config.batch_size, config.seed, step, last_step)
    iterator = iter(strategy.experimental_distribute_dataset(batches))
    recorder = Recorder(workdir, config, networks.loss_sums.numpy(), step, steps_per_epoch, last_step, report)

    def save() -> None:
        networks.loss_sums.assign(recorder.loss_sums)
        checkpoints.save(networks.checkpoint, workdir / "checkpoints", step, config.keep_checkpoints)

    exhausted = False
    with recorder, _stop_signals() as stop:
        while step < last_step and not stop and not exhausted:
            until = min(
                step + steps_per_call,
                next_due(step, steps_per_epoch),
                next_due(step, config.checkpoint_every_steps),
                last_step,
            )
            started = time.monotonic()
            losses = _take_steps(train_steps, iterator, until - step, data)
            secs = time.monotonic() - started
            _check_finite(losses, step, workdir)
            recorder.add_losses(step, losses, secs)
            step = until
            steps_per_call = max(1, round(SECS_PER_CALL * len(losses) / secs))

            evaluation = None
            if validate and is_due(step, config.eval_every_epochs * steps_per_epoch):
                evaluation = validate(step)
            if is_due(step, steps_per_epoch) or step == last_step:
                recorder.end_epoch(step, evaluation)
            if evaluation and _is_best(config, workdir, step):
                networks.loss_sums.assign(recorder.loss_sums)
                checkpoints.save_best(networks.checkpoint, workdir / "checkpoints", step)
            exhausted = bool(evaluation) and _is_exhausted(config, workdir)
            if is_due(step, config.samples_every_epochs * steps_per_epoch) or step == last_step:
                recorder.add_samples(step, draw_samples())
            if is_due(step, config.checkpoint_every_steps):
                save()
        if step > first_step and not is_due(step, config.checkpoint_every_steps):  # at the end, or stopped in between
            save()
    if exhausted:
        report(f"Finished at step {step}: " + _exhaustion(config, workdir))
    elif step < last_step:
        report(f"Stopped at step {step} of {last_step}. The same command continues from the checkpoint named below.")
        return stop[0]
    return None


def _is_best(config: TrainConfig, workdir: Path, step: int) -> bool:
    best = best_record(read_history(workdir), best_metric(config))
    return best is not None and best["step"] == step


def _is_exhausted(config: TrainConfig, workdir: Path) -> bool:
    return is_exhausted(read_history(workdir), best_metric(config), config.patience)


def _exhaustion(config: TrainConfig, workdir: Path) -> str:
    best = best_record(read_history(workdir), best_metric(config))
    return (
        f"{best_metric(config)} has not improved in {config.patience} evaluations. "
        f"It was best at step {best['step']}, {value_of(best, best_metric(config)):.4g}."
    )


def _take_steps(train_steps: Callable, iterator: tf.data.Iterator, count: int, data: Data) -> np.ndarray:
    try:
        return train_steps(iterator, tf.constant(count)).numpy()
    except tf.errors.ResourceExhaustedError as error:
        raise UserError(
            "The device's memory is too small for this run. Lower --batch_size, --base_filters or --image_size."
        ) from error
    except (tf.errors.InvalidArgumentError, tf.errors.NotFoundError, tf.errors.DataLossError) as error:
        # TensorFlow's message does not say which file. The likeliest cause is one that changed since it was checked.
        if data.pairs.shards:
            raise UserError(
                f"A record of the shards in {data.pairs.root} cannot be read: {str(error).splitlines()[0]}. "
                "Copy them again; the same command continues."
            ) from error
        bad = check.find_bad_pairs(data.pairs.files("train").paths, data.reading)
        if not bad:
            raise
        number, problem = next(iter(bad.items()))
        name = data.pairs.root / data.pairs.splits["train"][number]
        raise UserError(
            f"A file has changed since the run began: {name}: {problem}. Put it back; the same command continues."
        ) from error


def _check_finite(losses: np.ndarray, done_steps: int, workdir: Path) -> None:
    finite = np.isfinite(losses).all(axis=1)
    if finite.all():
        return
    bad = int(np.argmin(finite))
    values = ", ".join(f"{name} {value:g}" for name, value in zip(LOSS_NAMES, losses[bad], strict=True))
    saved = checkpoints.list_steps(workdir / "checkpoints")
    raise UserError(
        f"Training stops when a loss is not finite. At step {done_steps + bad + 1}: {values}. "
        + (f"The checkpoint of step {saved[-1]} is kept. " if saved else "")
        + "Begin another --workdir with a lower --learning_rate or --precision=float32."
    )


def _check_batch(batch_size: int, count: int, replicas: int) -> None:
    if batch_size > count:
        raise UserError(
            f"--batch_size must not exceed the number of training pairs, {count}. Received: {batch_size}. Lower it."
        )
    if batch_size % replicas:
        lower = batch_size // replicas * replicas
        near = f"{lower} or {lower + replicas}" if lower else f"{replicas}"
        raise UserError(
            f"--batch_size is shared out evenly over the {replicas} devices. Received: {batch_size}. "
            f"Take {near}, or show fewer devices with CUDA_VISIBLE_DEVICES."
        )


def _check_data(record: dict, found: str, root: Path) -> None:
    known = record.get("data", {}).get("fingerprint")
    if known != found:
        raise UserError(
            f"A run continues only on the data it began with. Changed: the training files in {root} (names or sizes). "
            "Put them back, or take another --workdir for a new run."
        )


def _record(config: TrainConfig, pairs: Pairs) -> str:
    data_dir, inception = config.data_dir, config.inception
    if data_dir is not None:
        data_dir = str(Path(data_dir).absolute())
    if inception is not None and Path(inception).exists():
        inception = str(Path(inception).absolute())
    return to_json(
        dataclasses.replace(config, data_dir=data_dir, inception=inception),
        inference={"statistics": config.statistics, "noise": False},
        data={"fingerprint": fingerprint(pairs), "counts": {split: len(pairs.splits[split]) for split in pairs.splits}},
        versions=versions(),
    )


def _report_outcome(workdir: Path, report: Callable[[str], None]) -> None:
    steps = checkpoints.list_steps(workdir / "checkpoints")
    report(f"Pictures:   {workdir / 'samples'}")
    report(f"Curves:     {workdir / 'curves.png'} (and TensorBoard: {workdir / 'summaries'})")
    report(f"Checkpoint: {checkpoints.path_of(workdir / 'checkpoints', steps[-1]) if steps else 'none yet'}")
    best = checkpoints.best_of(workdir / "checkpoints")
    for step in checkpoints.list_steps(best):
        report(f"Best:       {checkpoints.path_of(best, step)}")


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[int]]:
    """Collects the first SIGINT or SIGTERM in a list instead of dying of it; a second one acts as usual."""
    stop: list[int] = []
    signals = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in signals}

    def remember(number: int, frame: object) -> None:
        stop.append(number)
        for other in signals:
            signal.signal(other, before[other])

    for number in signals:
        signal.signal(number, remember)
    try:
        yield stop
    finally:
        for number in signals:
            signal.signal(number, before[number])
