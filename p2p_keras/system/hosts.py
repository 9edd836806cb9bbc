"""Several hosts that compute together: where the environment says so, and how they come to agree."""

import json
import os
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from p2p_keras.errors import UserError

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
        UserError: TF_CONFIG says something else.
    """
    if cluster := environment.get("TF_CONFIG"):
        alone = _count_members(cluster) < 2
        return None if alone else tf.distribute.cluster_resolver.TFConfigClusterResolver()
    if "SLURM_PROCID" in environment and int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        return tf.distribute.cluster_resolver.SlurmClusterResolver()
    return None


def _count_members(cluster: str) -> int:
    """How many train, if this process is one of them."""
    try:
        said = json.loads(cluster)
        members = {kind: len(said["cluster"].get(kind, ())) for kind in ("chief", "worker")}
        count = sum(members.values())
        task = said["task"] if count > 1 else {"type": "worker", "index": 0}
        belongs = count < 2 or int(task["index"]) in range(members.get(task["type"], 0))
        problem = "" if belongs else f"its task is none of the cluster's chief and workers, {members}"
    except (json.JSONDecodeError, RecursionError):
        problem = "it is no JSON"
    except (KeyError, TypeError, AttributeError):
        problem = "it is no object with cluster and task"
    except ValueError:
        problem = "its task is none of the cluster's chief and workers, for its index is no number"
    if problem:
        raise UserError(
            "TF_CONFIG names the hosts that train, and which of them this is, as docs/clusters.md shows: "
            f"{problem}. Received: {cluster}. Mend it, or unset it to train on this host alone."
        )
    return count


class Hosts:
    """The hosts of a strategy. The first one is the chief, which alone writes a run.

    Attributes:
        count: How many there are; 1 without a cluster.
        index: This one's number, from 0.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        resolver = strategy.cluster_resolver
        self.count, self.index = 1, 0
        if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) and resolver and resolver.task_type:
            members = resolver.cluster_spec().as_dict()
            chiefs = len(members.get("chief", ()))
            self.count = chiefs + len(members.get("worker", ()))
            self.index = resolver.task_id + (0 if resolver.task_type == "chief" else chiefs)
        self._strategy = strategy
        self._sum = tf.function(self._sum_in_graph, autograph=False)

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
        if self.count == 1:
            return said
        return self._sum(tf.constant(said)).numpy()

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
