"""Several processes on loopback as several hosts: how the step scales, and how much of it is the reduction.

    python benchmarks/scaling.py --processes=1,2,4 --batch_size=4

Each process is a host of its own, on one core (CPU affinity), which it has for itself as long as there are enough, with
--batch_size pairs of a step for each of them (weak scaling). Prints for each number of hosts the time of a step,
images/s, the time of
the gradients' reduction alone, and what share of the step that is. Rounds go through all numbers of hosts in turn, so
whatever else the machine does hits all of them; the figures are medians of the rounds, with the least and the most.

What it cannot show is a network: loopback has no latency to speak of, and its bandwidth is the memory's.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", default="1,2,4")
    parser.add_argument("--batch_size", type=int, default=4, help="Of each process.")
    parser.add_argument("--image_size", type=int, default=256)
    parser.add_argument("--base_filters", type=int, default=64)
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--steps", type=int, default=4, help="Of a round.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", type=int, default=-1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker >= 0:
        work(arguments)
        return
    cores = sorted(os.sched_getaffinity(0))
    results = {count: [] for count in map(int, arguments.processes.split(","))}
    for number in range(arguments.rounds):
        for count, rounds in results.items():
            print(f"round {number + 1} of {arguments.rounds}, {count} process(es)", file=sys.stderr)
            rounds.append(run(count, cores))
    side = arguments.image_size
    print(f"{len(cores)} cores, batch {arguments.batch_size} a process, {side}x{side}, {arguments.precision}, ", end="")
    print(f"{arguments.rounds} rounds of {arguments.steps} steps\n")
    print("| processes | of a core | step, s | images/s | reduction, s | share | MB reduced |")
    print("|---|---|---|---|---|---|---|")
    for count, rounds in results.items():
        steps, reductions = ([one[name] for one in rounds] for name in ("step", "reduction"))
        shares = [one["reduction"] / one["step"] for one in rounds]
        rate = count * arguments.batch_size / statistics.median(steps)
        print(
            f"| {count} | {-(-count // len(cores))} | {spread(steps)} | {rate:.2f} | {spread(reductions)} | "
            f"{spread(shares, '.0%')} | {rounds[0]['bytes'] / 1e6:.0f} |"
        )


def spread(values: list[float], form: str = ".3f") -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def run(count: int, cores: list[int]) -> dict[str, float]:
    """What the first process measured."""
    servers = [socket.create_server(("localhost", 0)) for _ in range(count)]
    members = [f"localhost:{server.getsockname()[1]}" for server in servers]
    for server in servers:
        server.close()
    started = []
    for index in range(count):
        cluster = {"cluster": {"worker": members}, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(cluster), "TF_CPP_MIN_LOG_LEVEL": "3"}
        allowed = {cores[index % len(cores)]}
        started.append(
            subprocess.Popen(
                [sys.executable, __file__, *sys.argv[1:], f"--worker={index}"],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                preexec_fn=lambda allowed=allowed: os.sched_setaffinity(0, allowed),
            )
        )
    results = [process.communicate() for process in started]
    if any(process.returncode for process in started):
        sys.exit(f"a process failed: {[err[-2000:] for _, err in results]}")
    return json.loads(results[0][0].splitlines()[-1])


def work(arguments: argparse.Namespace) -> None:
    import tensorflow as tf

    from p2p_keras.presets import make_config
    from p2p_keras.system.devices import make_strategy
    from p2p_keras.training.networks import build_networks
    from p2p_keras.training.step import make_train_steps

    strategy = make_strategy()
    config = make_config(
        "paper",
        data_dir="none",  # or it would be the demo's settings
        direction="AtoB",
        image_size=arguments.image_size,
        base_filters=arguments.base_filters,
        precision=arguments.precision,
        batch_size=arguments.batch_size,
        input_channels=(3,),
        output_channels=3,
        input_bits=(8,),
        output_bits=8,
    )
    networks = build_networks(config, strategy, 1000, 0)
    steps = make_train_steps(
        strategy,
        *networks.trained,
        config.lambda_l1,
        networks.step,
    )
    size = (arguments.batch_size, arguments.image_size, arguments.image_size, 3)
    images = tf.random.stateless_uniform(size, (1, 2), -1.0, 1.0)
    seeds = tf.zeros((arguments.batch_size, 2), tf.int32)
    dataset = tf.data.Dataset.from_tensors((images, images, seeds)).repeat()
    batches = iter(strategy.distribute_datasets_from_function(lambda context: dataset))

    variables = networks.generator.trainable_variables + networks.discriminator.trainable_variables
    gradients = [tf.zeros(variable.shape) for variable in variables]

    @tf.function(autograph=False)
    def reduce(count: tf.Tensor) -> tf.Tensor:
        """All gradients, summed over the processes, so many times one after the other."""

        def once(given: list[tf.Tensor]) -> list[tf.Tensor]:
            own = [tf.identity(value) for value in given]  # on the replica's device: all_reduce asks where they are
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, own)

        def body(i: tf.Tensor, *given: tf.Tensor) -> tuple:
            reduced = strategy.run(once, args=(list(given),))
            return i + 1, *(strategy.experimental_local_results(value)[0] for value in reduced)

        return tf.while_loop(lambda i, *_: i < count, body, (0, *gradients), parallel_iterations=1)[0]

    def time_of(call) -> float:
        call(1)  # traces; the first call waits for the others as well
        started = time.monotonic()
        call(arguments.steps)
        return (time.monotonic() - started) / arguments.steps

    step = time_of(lambda count: steps(batches, tf.constant(count)).numpy())
    alone = strategy.num_replicas_in_sync == 1
    reduction = 0.0 if alone else time_of(lambda count: reduce(tf.constant(count)).numpy())
    size_in_bytes = sum(4 * int(tf.size(gradient)) for gradient in gradients)
    print(json.dumps({"step": step, "reduction": reduction, "bytes": size_in_bytes}))


if __name__ == "__main__":
    main()
