"""Several hosts that compute together: where the environment says so, and how they come to agree."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.python.distribute.cluster_resolver.slurm_cluster_resolver import expand_hostlist, expand_tasks_per_node

from p2p_keras.errors import HostLostError, UserError
from p2p_keras.versions import versions

_FIRST_PORT, _PORTS = 12_000, 10_000  # under Slurm, by the job's number: below those that systems give out themselves

ENDED = (  # what TensorFlow raises on the hosts that are left
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)


def cluster_resolver(
    environment: Mapping[str, str] = os.environ,
) -> tf.distribute.cluster_resolver.ClusterResolver | None:
    """Finds the cluster that this process is part of; None if it computes alone.

    That is what TF_CONFIG says, as Kubernetes' training operators set it, if it names several workers; or a step of
    several tasks under Slurm (`srun`). TF_CONFIG goes first.

    Raises:
        UserError: TF_CONFIG says something else, or Slurm's variables do.
    """
    if cluster := environment.get("TF_CONFIG"):
        return _resolver_of(cluster)
    if environment.get("SLURM_STEP_NUM_TASKS", "1") != "1" and "SLURM_PROCID" in environment:
        return _slurm_resolver(environment)
    return None


def _slurm_resolver(environment: Mapping[str, str]) -> tf.distribute.cluster_resolver.ClusterResolver:
    """The tasks of a step, in Slurm's order.

    TensorFlow's SlurmClusterResolver sorts the nodes by name, which gives n9 the address of n10, looks for GPUs with
    nvidia-smi even where there are none, and has all jobs of a node meet at the same port.
    """
    try:
        nodes = expand_hostlist(environment["SLURM_STEP_NODELIST"])
        tasks = expand_tasks_per_node(environment["SLURM_STEP_TASKS_PER_NODE"])
        first_port = _FIRST_PORT + int(environment.get("SLURM_JOB_ID", 0)) % _PORTS
        addresses = [
            f"{node}:{first_port + task}" for node, count in zip(nodes, tasks, strict=True) for task in range(count)
        ]
        own = int(environment["SLURM_PROCID"])
        if own not in range(len(addresses)):
            raise ValueError(f"task {own} of {len(addresses)}")
    except (KeyError, ValueError) as error:
        raise UserError(
            f"Slurm names the hosts of a step in SLURM_STEP_NODELIST and the like. Received: {error}. Start by srun, "
            "one task on each node, as docs/clusters.md shows; or set TF_CONFIG."
        ) from error
    cluster = tf.train.ClusterSpec({"worker": addresses})
    return tf.distribute.cluster_resolver.SimpleClusterResolver(cluster, task_type="worker", task_id=own)


def _resolver_of(text: str) -> tf.distribute.cluster_resolver.ClusterResolver | None:
    """Those that train by a TF_CONFIG, and which of them this process is; None if it is the only one."""
    try:
        said = json.loads(text)
        if said == {}:
            return None
        for addresses in said["cluster"].values():
            if not isinstance(addresses, list) or not all(
                isinstance(one, str) and one and one.isprintable() for one in addresses
            ):
                raise TypeError
        members = {kind: said["cluster"][kind] for kind in ("chief", "worker") if kind in said["cluster"]}
        counts, task = {kind: len(addresses) for kind, addresses in members.items()}, said.get("task")
        alone = sum(counts.values()) < 2
        if alone and not task:
            return None
        kind, index = task["type"], int(task["index"])
        problem = "" if index in range(counts.get(kind, 0)) else f"its task is none of the cluster's {counts}"
        if alone and not problem:
            return None
        everybody = [address for addresses in members.values() for address in addresses]
        if len(set(everybody)) < len(everybody):  # TensorFlow would wait for it without end
            problem = "it names one of them twice"
    except (json.JSONDecodeError, RecursionError):
        problem = "it is no JSON"
    except (KeyError, TypeError, AttributeError):
        problem = "it is no object with cluster, lists of host:port, and task"
    except (ValueError, OverflowError):  # JSON, as Python reads it, knows Infinity
        problem = "its task is none of the cluster's, for its index is no number"
    if problem:
        raise UserError(
            "TF_CONFIG names the hosts that train, and which of them this is, as docs/clusters.md shows: "
            f"{problem}. Received: {text}. Mend it, or unset it to train on this host alone."
        )
    cluster = tf.train.ClusterSpec(members)
    return tf.distribute.cluster_resolver.SimpleClusterResolver(cluster, task_type=kind, task_id=index)


class Hosts:
    """The hosts of a strategy, or this one alone. The first one is the chief, which alone writes.

    Attributes:
        count: How many there are; 1 without a cluster.
        index: This one's number, from 0.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None = None) -> None:
        self.count, self.index = 1, 0
        several = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        resolver = strategy.cluster_resolver if several else None
        if resolver and resolver.task_type:
            members = resolver.cluster_spec().as_dict()
            chiefs = len(members.get("chief", ()))
            self.count = chiefs + len(members.get("worker", ()))
            self.index = resolver.task_id + (0 if resolver.task_type == "chief" else chiefs)
        self._strategy = strategy
        self._sum = tf.function(self._sum_in_graph, autograph=False)
        # Each shape is traced once, as it must be. After five TensorFlow warns the user that this is expensive.
        self._sum._omit_frequent_tracing_warning = True

    @property
    def is_chief(self) -> bool:
        """Whether this host writes."""
        return self.index == 0

    def agree(self, values: Sequence[int]) -> np.ndarray:
        """Gathers what each host says, int64 (hosts, values). All call it at the same point, and wait for each other.

        Raises:
            tf.errors.OpError: One of `ENDED`; another host has gone.
        """
        said = np.zeros((self.count, len(values)), np.int64)
        said[self.index] = values
        return self.total(said)

    def total(self, values: np.ndarray) -> np.ndarray:
        """Adds up what each host gives, of equal shape and type, element by element. All call it at the same point.

        Raises:
            tf.errors.OpError: One of `ENDED`; another host has gone.
        """
        return values if self.count == 1 else self._sum(tf.constant(values)).numpy()

    def check_alike(self, facts: Mapping[str, object]) -> None:
        """Compares what decides the result over all hosts: these facts, by their names, and the package versions.

        Raises:
            UserError: They differ; names the host and what is different there. Raised on all of them.
        """
        if self.count == 1:
            return
        facts = {**facts, **{f"the version of {package}": version for package, version in versions().items()}}
        rows = self.agree([_digest(value) for value in facts.values()])
        for host, row in enumerate(rows):
            differ = [name for name, own, chiefs in zip(facts, row, rows[0], strict=True) if own != chiefs]
            if differ:
                raise UserError(
                    f"All hosts need the same settings, files and versions. Host {host} differs from host 0 in "
                    f"{', '.join(differ)}. Give the same command everywhere, with the same data and packages."
                )

    def spread(self, variables: Sequence[tf.Variable]) -> None:
        """Gives each host the chief's values."""
        if self.count == 1:
            return

        for dtype in dict.fromkeys(variable.dtype for variable in variables):  # collectives take one at a time
            alike = [variable for variable in variables if variable.dtype == dtype]
            values = [variable.read_value() for variable in alike]
            mine = values if self.is_chief else [tf.zeros_like(value) for value in values]
            for variable, value in zip(alike, self._sum(mine), strict=True):  # the chief's alone
                variable.assign(value)

    def _sum_in_graph(self, values: tf.Tensor | Sequence[tf.Tensor]) -> tf.Tensor | list[tf.Tensor]:
        """Over the hosts, each counted once, however many replicas it has."""
        local = self._strategy.num_replicas_in_sync // self.count

        def add_up(values: tf.Tensor | Sequence[tf.Tensor]) -> tf.Tensor | list[tf.Tensor]:
            context = tf.distribute.get_replica_context()
            speaks = context.replica_id_in_sync_group % local == 0
            mine = tf.nest.map_structure(lambda value: tf.where(speaks, value, tf.zeros_like(value)), values)
            return context.all_reduce(tf.distribute.ReduceOp.SUM, mine)

        summed = self._strategy.run(add_up, args=(values,))
        return tf.nest.map_structure(lambda value: self._strategy.experimental_local_results(value)[0], summed)


ALONE = Hosts()  # this one


@contextlib.contextmanager
def lost_hosts_in_words(hosts: Hosts, way_out: str) -> Iterator[None]:
    """Turns what TensorFlow raises when another host has gone into a line.

    Args:
        hosts: All of them.
        way_out: What the same command on all hosts does.

    Raises:
        HostLostError: Another host has gone.
    """
    try:
        yield
    except ENDED as error:
        if hosts.count == 1:
            raise
        raise HostLostError(
            f"A command goes on while all of its {hosts.count} hosts do. One of them has gone or refused to go on (see "
            f"what host 0 says), or cannot be reached. The same command on all hosts {way_out}."
        ) from error


def quiet_unless_chief(hosts: Hosts, report: Callable[[str], None]) -> Callable[[str], None]:
    """The same report on the chief; on the others it is silent, after a line that says so."""
    if hosts.is_chief:
        return report
    report(f"Host {hosts.index} of 0 to {hosts.count - 1}: computes its share; host 0 writes and reports")
    return lambda line: None


def _digest(value: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(value).encode()).digest()[:7], "big")
