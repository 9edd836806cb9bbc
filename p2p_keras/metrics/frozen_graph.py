"""Inception as a frozen graph of 2015: brought to where today's TensorFlow runs it, for batches of any size."""

from collections.abc import Callable
from pathlib import Path

import tensorflow as tf
from google.protobuf.message import DecodeError

from p2p_keras.errors import UserError

# images float32 (B, 299, 299, 3) -> pool_3, and logits if the network has them; any shapes that begin with B
Network = Callable[[tf.Tensor], dict[str, tf.Tensor]]


def load_frozen_graph(path: Path) -> Network:
    """Loads an Inception frozen graph from behind its own decoding, resizing and scaling, which know only one image.

    The logits are the node `logits`; without it they are pool_3 times the weights of `softmax/logits/MatMul`, without
    the bias, as in the code of the Inception Score (Salimans et al., "Improved Techniques for Training GANs", 2016):
    so the score agrees with the customary numbers.
    """
    graph = tf.compat.v1.GraphDef()
    try:
        graph.ParseFromString(path.read_bytes())
    except DecodeError:
        graph.Clear()  # what was read before the damage
    nodes = {node.name: node for node in graph.node}
    if not {"Mul", "pool_3"} <= nodes.keys():
        first = ", ".join([*nodes][:3]) + ", ..." if nodes else "none"
        raise UserError(
            "A frozen Inception graph has the nodes Mul (its scaled images) and pool_3 (its features). "
            f"Received {path} with {len(nodes)} nodes ({first}). Name another network."
        )
    outputs = {"pool_3": "pool_3:0"}
    if "logits" in nodes:
        outputs["logits"] = "logits:0"
    elif "softmax/logits/MatMul" in nodes:
        outputs["weights"] = nodes["softmax/logits/MatMul"].input[1]
    _keep_between("Mul", list(outputs.values()), graph)

    def network(images: tf.Tensor) -> dict[str, tf.Tensor]:
        names = [name if ":" in name else f"{name}:0" for name in outputs.values()]
        values = tf.graph_util.import_graph_def(graph, {"Mul:0": images}, names)
        found = dict(zip(outputs, values, strict=True))
        if "weights" in found:
            found["logits"] = tf.matmul(flatten(found["pool_3"]), found["weights"])
        return found

    return network


def _keep_between(source: str, outputs: list[str], graph: tf.compat.v1.GraphDef) -> None:
    """Reduces a graph to the nodes that the outputs need, `source` excluded, in a form today's TensorFlow runs."""
    others = {node.name: node for node in graph.node if node.name != source}
    needed, waiting = [], list(outputs)
    while waiting:
        node = others.pop(waiting.pop().removeprefix("^").split(":")[0], None)
        if node is not None:  # neither met before nor the source
            needed.append(node)
            waiting += node.input
    kept = [new for node in needed for new in _modernised(node)]
    del graph.node[:]
    graph.node.extend(kept)


def _modernised(node: tf.compat.v1.NodeDef) -> list[tf.compat.v1.NodeDef]:
    """The node or nodes to import in a node's place."""
    new = tf.compat.v1.NodeDef()
    new.CopyFrom(node)
    new.attr.pop("_output_shapes", None)  # written down for a batch of one image
    if node.op != "BatchNormWithGlobalNormalization":
        return [new]
    # The graph of 2015 uses this op. It imports (the graph says it was written by version 8), but functions are run as
    # the present version, which refuses what was removed in version 9. The fused op is the same in inference.
    ones = tf.compat.v1.NodeDef(name=f"{node.name}/ones", op="OnesLike", input=[node.input[4]])
    ones.attr["T"].CopyFrom(node.attr["T"])
    images, mean, variance, beta, gamma = node.input
    scale = gamma if node.attr["scale_after_normalization"].b else ones.name
    new = tf.compat.v1.NodeDef(name=node.name, op="FusedBatchNormV3", input=[images, scale, beta, mean, variance])
    for key in ("T", "U"):
        new.attr[key].CopyFrom(node.attr["T"])
    new.attr["epsilon"].CopyFrom(node.attr["variance_epsilon"])
    new.attr["is_training"].b = False
    return [ones, new]


def flatten(values: tf.Tensor) -> tf.Tensor:
    """(B, ...) of any numbers -> float32 (B, d)."""
    return tf.reshape(tf.cast(values, tf.float32), (tf.shape(values)[0], -1))
