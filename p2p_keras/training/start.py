"""Whether a run may go on, and from where: all that is found out before a first step is taken."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from p2p_keras.config import TrainConfig, best_metric, decay_steps, total_steps
from p2p_keras.data.pairs import fingerprint
from p2p_keras.errors import UserError
from p2p_keras.models import make_inference
from p2p_keras.pretrained import NAMES, locate
from p2p_keras.system.hosts import Hosts
from p2p_keras.system.urls import absolute
from p2p_keras.training.cluster import check_equal
from p2p_keras.training.initial import check_form, load_initial, open_source
from p2p_keras.training.networks import Networks, build_networks
from p2p_keras.training.samples import make_sampler
from p2p_keras.training.validation import make_validation
from p2p_keras.versions import versions
from p2p_keras.workdir import checkpoints
from p2p_keras.workdir.folder import check_resume, saved_run, to_json
from p2p_keras.workdir.resolve import Data, resolve
from p2p_keras.workdir.resume import newest_whole

_SHOW_FEWER = "Show fewer devices with CUDA_VISIBLE_DEVICES"


class Run(NamedTuple):
    """A run that is ready to go on."""

    config: TrainConfig
    workdir: Path
    data: Data
    fingerprint: str  # of the training pairs
    strategy: tf.distribute.Strategy
    hosts: Hosts
    networks: Networks
    init_from: dict | None  # whose weights it began with, as `initial.load_initial` says it; None if they were drawn
    draw_samples: Callable[[], np.ndarray] | None  # a grid by the generator as it is then; None if the run is finished
    validate: Callable[[int], dict] | None  # scores the generator as it is after a step
    steps_per_epoch: int
    first_step: int  # steps done
    last_step: int
    report: Callable[[str], None]

    @property
    def checkpoints(self) -> Path:
        """Where they lie."""
        return self.workdir / "checkpoints"


def open_run(
    config: TrainConfig, workdir: Path, strategy: tf.distribute.Strategy, report: Callable[[str], None]
) -> Run:
    """Opens a run, new or begun, and restores its newest checkpoint.

    Args:
        config: What is asked for.
        workdir: The run's folder, locked; on other hosts than the chief an empty one.
        strategy: Where to compute.
        report: Called with each line that a person should read.

    Raises:
        UserError: It may not go on with these settings, data or devices. Then no setting was written.
    """
    saved, record = saved_run(workdir) or (None, {})
    _check_trained(record, workdir)
    source = None
    hosts = Hosts(strategy)
    if config.init_from is not None:
        if config.init_from not in NAMES:
            config = dataclasses.replace(config, init_from=str(Path(config.init_from).absolute()))
        if hosts.is_chief and not checkpoints.all_steps(workdir / "checkpoints"):  # of a run that goes on, its own
            source = open_source(locate(config.init_from))
    config, data = resolve(config, saved, workdir, report)
    count = len(data.pairs.splits["train"])
    _check_jit(config, strategy.num_replicas_in_sync)
    steps_per_epoch = count // config.batch_size
    last_step = total_steps(config, steps_per_epoch)

    found = fingerprint(data.pairs)
    check_equal(hosts, config, found)
    newest = newest_whole(workdir / "checkpoints", report)
    own_step = checkpoints.step_of(newest) if newest else 0
    first_step = int(hosts.agree([own_step])[0, 0])  # the chief's, for only there are checkpoints
    if saved and newest:  # before the first checkpoint nothing is bound yet
        check_resume(saved, config, first_step, steps_per_epoch)  # first: in another run's folder the data differ, too
        _check_data(record, found, data.pairs.root)
        _check_best(saved, config, workdir)
    _check_batch(config, count, strategy.num_replicas_in_sync, goes_on=first_step > 0)
    if source:
        check_form(source.config, config)
    networks = build_networks(config, strategy, last_step, decay_steps(config, steps_per_epoch))
    init_from = record.get("init_from") if newest else None
    if newest:
        checkpoints.restore(networks.checkpoint, newest)
    elif source:
        init_from = load_initial(source, config, networks, report)
    if first_step or config.init_from:
        hosts.spread(networks.variables())
    generate, draw_samples, validate = make_inference(networks.inference), None, None
    if hosts.is_chief and first_step < last_step:
        draw_samples = make_sampler(generate, data.pairs, data.reading, report, config.samples)
    if hosts.is_chief and config.eval_every_epochs and first_step < last_step:
        validate = make_validation(config, networks.inference, generate, data, workdir, steps_per_epoch, report)
    return Run(
        config=config,
        workdir=workdir,
        data=data,
        fingerprint=found,
        strategy=strategy,
        hosts=hosts,
        networks=networks,
        init_from=init_from,
        draw_samples=draw_samples,
        validate=validate,
        steps_per_epoch=steps_per_epoch,
        first_step=first_step,
        last_step=last_step,
        report=report,
    )


def _check_trained(record: dict, workdir: Path) -> None:
    if "imported" in record:
        raise UserError(
            f"{workdir} holds an imported generator, without a discriminator and optimizers to go on with. Begin a run "
            f"with its weights in another --workdir: --init_from={workdir}"
        )


def _check_batch(config: TrainConfig, count: int, replicas: int, goes_on: bool) -> None:
    """A run that goes on is offered other devices alone: it keeps its batch, and its pairs are those it began with."""
    batch_size, accumulate = config.batch_size, config.accumulate
    most = count // replicas * replicas  # that are shared out evenly
    if not most:
        way_out = _SHOW_FEWER if goes_on else f"{_SHOW_FEWER}, or add pairs"
        raise UserError(f"There are fewer pairs to train on ({count}) than devices ({replicas}). {way_out}.")
    if batch_size > count:
        way_out = f"Give --batch_size={most}{' or less' if replicas == 1 else ''}."
        raise UserError(f"A batch has {batch_size} pairs, and there are {count} to train on. {way_out}")
    if batch_size % replicas:
        lower = batch_size // replicas * replicas
        near = " or ".join(str(size) for size in (lower, lower + replicas) if 0 < size <= most)
        way_out = _SHOW_FEWER if goes_on else f"{_SHOW_FEWER}, or take {near}"
        raise UserError(
            f"--batch_size is shared out evenly over the {replicas} devices. Received: {batch_size}. {way_out}."
        )
    share = batch_size // replicas
    if share % accumulate:
        divisors = ", ".join(str(parts) for parts in range(1, share + 1) if share % parts == 0)
        others = f"Take one of {divisors}"
        if replicas * accumulate <= count:
            others += f", or a --batch_size that is a multiple of {replicas * accumulate}"
        raise UserError(
            f"--accumulate divides the pairs of a step that a device gets, {share}, into equal parts. "
            f"Received: {accumulate}. {_SHOW_FEWER if goes_on else others}."
        )


def _check_jit(config: TrainConfig, replicas: int) -> None:
    if config.jit_compile and replicas > 1:
        raise UserError(
            f"--jit_compile is for one device. There are {replicas}. Show one with CUDA_VISIBLE_DEVICES, or, for a new "
            "run, leave it out."
        )


def _check_data(record: dict, found: str, root: Path) -> None:
    known = record.get("data", {}).get("fingerprint")
    if known != found:
        raise UserError(
            f"A run continues only on the data it began with. Changed: the training files in {root} (names or sizes). "
            "Put them back, or take another --workdir for a new run."
        )


def to_record(run: Run) -> str:
    """What `config.json` says of a run."""
    config, splits = run.config, run.data.pairs.splits
    data_dir, inception = config.data_dir, config.inception
    if data_dir is not None:
        data_dir = absolute(data_dir)
    if inception is not None and Path(inception).exists():
        inception = str(Path(inception).absolute())
    return to_json(
        dataclasses.replace(config, data_dir=data_dir, inception=inception),
        inference={"statistics": config.statistics, "noise": False},
        data={"fingerprint": run.fingerprint, "counts": {split: len(names) for split, names in splits.items()}},
        **({"init_from": run.init_from} if run.init_from else {}),
        versions=versions(),
    )


def _check_best(saved: TrainConfig, asked: TrainConfig, workdir: Path) -> None:
    best = checkpoints.best_of(workdir / "checkpoints")
    was, asks = best_metric(saved), best_metric(asked)
    if was != asks and checkpoints.list_steps(best):
        raise UserError(
            f"--best_metric stays as long as a best checkpoint is kept. It was {was}, is {asks}. Give the old "
            f"value, or remove {best}: then the best is looked for from here on."
        )
