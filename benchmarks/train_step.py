"""A training step side by side: this project's, plain Keras', and PyTorch's at its best; in turn, as ratios.

    python benchmarks/train_step.py --batch_size=1,8,24 --rounds=5
    python benchmarks/train_step.py --torch_python=/path/to/python    # an environment that has torch
    python benchmarks/train_step.py --contenders=ours,run,torch --data_dir=DATA    # and the whole of p2p-train

Each contender runs in a process of its own, which waits between its turns. A round is one turn of each, so whatever
else the machine does hits all of them; the ratios are those of one round. Prints images/s, GFLOP/s (81 GFLOP an image
at 256x256; first of all, what a matrix product reaches on this machine), peak memory, and how many times as fast this
project's step is, with the spread. PyTorch's step is the standard one, which applies the discriminator three times: 8
passes of it where this project's and Keras' take 7, 8 % of all the arithmetic.

`ours` and `run` are by the paper's settings, as all others are; `defaults` is this project's step by those of a plain
p2p-train, which does more: DiffAugment, a moving average of the weights, a decoder that resizes and convolves.

`run` is p2p-train on pairs of images, with all that it does beside the steps: a turn of it is an epoch, however long,
with its input, summaries, samples, curves and checkpoints. --inference compares the generators instead, by the contract
of p2p-translate and in PyTorch's eval mode.
"""

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

GFLOP_PER_IMAGE = 81.0  # 3 passes of the generator (6.05 GMAC) and 7 of the discriminator (3.20)
GFLOP_PER_GENERATED = 12.1
TORCH = [f"torch {dtype} {layout}" for dtype in ("float32", "bfloat16") for layout in ("contiguous", "channels_last")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch_size", default="1,8,24", help="Several with commas between.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--secs", type=float, default=4.0, help="Length of a turn.")
    parser.add_argument("--image_size", type=int, default=256)
    parser.add_argument("--precision", default="bfloat16", help="Of this project's and of Keras' step.")
    parser.add_argument("--contenders", default="", help="Of ours, defaults, run, keras, torch.")
    parser.add_argument("--data_dir", default="", help="Pairs for run.")
    parser.add_argument("--other", default="", help="Another checkout of this project, as one more contender.")
    parser.add_argument("--device", default="cpu", choices=("cpu", "gpu"))
    parser.add_argument("--torch_python", default=sys.executable)
    parser.add_argument("--inference", action="store_true", help="The generator instead of the step.")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments)
        return
    print(f"{describe_cpu()}; product of matrices: {describe_peak()}")
    for batch_size in map(int, arguments.batch_size.split(",")):
        compare(arguments, batch_size)


def compare(arguments: argparse.Namespace, batch_size: int) -> None:
    wanted = arguments.contenders.split(",") if arguments.contenders else ["ours", "keras", "torch"]
    if arguments.inference:
        wanted = [one for one in wanted if one in ("ours", "torch")]
    names = [name for one in wanted for name in (TORCH if one == "torch" else [one])]
    if arguments.other:
        names.append("other")
    workers = {}
    for name in names:
        try:
            workers[name] = Worker(name, batch_size, arguments)
        except RuntimeError as error:
            print(f"  {name}: not compared: {error}")
    if not workers:
        return
    best = min((name for name in workers if name.startswith("torch")), key=lambda n: workers[n].turn(1), default=None)
    for name in [name for name in workers if name.startswith("torch") and name != best]:
        workers.pop(name).close()  # the slower of PyTorch's forms
    rates = {name: [] for name in workers}
    for _ in range(arguments.rounds):
        for name, worker in workers.items():
            rates[name].append(batch_size / worker.turn(arguments.secs))
    print(f"batch {batch_size}, {arguments.image_size}x{arguments.image_size}, {arguments.rounds} rounds")
    for name, worker in workers.items():
        rate = statistics.median(rates[name])
        gflop = GFLOP_PER_GENERATED if arguments.inference else GFLOP_PER_IMAGE
        share = gflop * rate * (arguments.image_size / 256) ** 2
        print(
            f"  {name:<32} {rate:6.2f} images/s ({1 / rate:.3f} s)  {share:5.0f} GFLOP/s  {worker.memory():.2f} GB  "
            + "; ".join(
                f"{one} is {compare_rates(rates[one], rates[name])}"
                for one in ("ours", "run")
                if one in rates and one != name
            ),
            flush=True,
        )
    for worker in workers.values():
        worker.close()


def compare_rates(ours: list[float], theirs: list[float]) -> str:
    ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
    return f"{statistics.median(ratios):.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})"


class Worker:
    """A contender, ready for its turns."""

    def __init__(self, name: str, batch_size: int, arguments: argparse.Namespace) -> None:
        python = arguments.torch_python if name.startswith("torch") else sys.executable
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
        here = str(Path(__file__).resolve().parents[1])
        environment["PYTHONPATH"] = arguments.other if name == "other" else here
        command = [python, os.path.abspath(__file__), f"--worker={name}", f"--batch_size={batch_size}"]
        command += [f"--{key}={getattr(arguments, key)}" for key in ("image_size", "precision", "device", "data_dir")]
        command += ["--inference"] if arguments.inference else []
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115, as long as the process
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True
        )
        if self.process.stdout.readline().strip() != "ready":
            raise RuntimeError(self._last_words())

    def turn(self, secs: float) -> float:
        """Seconds a step, over a turn of about so many seconds."""
        return self._ask(secs)

    def memory(self) -> float:
        return self._ask("memory")

    def _ask(self, what: float | str) -> float:
        print(json.dumps(what), file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"A contender ended: {' '.join(self.process.args)}: {self._last_words()}")
        return json.loads(answer)

    def _last_words(self) -> str:
        self.errors.seek(0)
        return (self.errors.read().strip().splitlines() or ["it ended"])[-1]

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def work(arguments: argparse.Namespace) -> None:
    """A worker's side: builds, warms up, and answers."""
    if arguments.worker == "run":
        work_through_run(arguments)
        return
    prepare = prepare_torch if arguments.worker.startswith("torch") else prepare_keras
    step, finish = prepare(arguments)
    for _ in range(2):
        step()
    finish()
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if asked == "memory":
            print(peak_memory(arguments), flush=True)
            continue
        count, started = 0, time.perf_counter()
        while count == 0 or time.perf_counter() - started < asked:
            step()
            finish()
            count += 1
        print((time.perf_counter() - started) / count, flush=True)


def work_through_run(arguments: argparse.Namespace) -> None:
    """The same by p2p-train: it waits for its turn in the report of each epoch, the first of which warms it up."""
    from p2p_keras.presets import make_config
    from p2p_keras.training.run import train
    from p2p_keras.workdir.folder import read_config

    batch, started = int(arguments.batch_size), None

    def take_turns(line: str) -> None:
        nonlocal started
        if not line.startswith("epoch "):
            return
        steps = read_config(Path(workdir) / "config.json")[1]["data"]["counts"]["train"] // batch
        print((time.perf_counter() - started) / steps if started else "ready", flush=True)
        for line in sys.stdin:
            if json.loads(line) != "memory":
                started = time.perf_counter()
                return
            print(peak_memory(arguments), flush=True)
        raise KeyboardInterrupt

    with tempfile.TemporaryDirectory() as workdir, contextlib.suppress(KeyboardInterrupt):
        settings = {"direction": "BtoA", "image_size": arguments.image_size, "precision": arguments.precision}
        config = make_config("paper", data_dir=arguments.data_dir, batch_size=batch, epochs=10**6, **settings)
        train(config, Path(workdir), report=take_turns)


def peak_memory(arguments: argparse.Namespace) -> float:
    """GB: of the process, or of the GPU."""
    if arguments.device == "cpu":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    if arguments.worker.startswith("torch"):
        import torch

        return torch.cuda.max_memory_allocated() / 1e9
    import tensorflow as tf

    return tf.config.experimental.get_memory_info("GPU:0")["peak"] / 1e9


def prepare_keras(arguments: argparse.Namespace):
    import keras
    import numpy as np
    import tensorflow as tf

    batch, size = int(arguments.batch_size), arguments.image_size
    rng = np.random.RandomState(0)
    images = [rng.uniform(-1, 1, (batch, size, size, 3)).astype(np.float32) for _ in range(2)]
    seeds = rng.randint(0, 2**31, (batch, 2)).astype(np.int32)
    data = tf.data.Dataset.from_tensors((*images, seeds)).repeat()
    device = "GPU:0" if arguments.device == "gpu" else "CPU:0"
    if arguments.worker == "keras":
        with tf.device(device):
            return prepare_tutorial(keras, tf, data, arguments.precision, size), lambda: None
    from p2p_keras.config import TrainConfig
    from p2p_keras.images.kinds import RGB
    from p2p_keras.models import make_inference
    from p2p_keras.presets import BEST
    from p2p_keras.training.augment import augment_pairs
    from p2p_keras.training.networks import build_networks
    from p2p_keras.training.step import make_train_steps
    from p2p_keras.workdir.generator import build_generator

    strategy = tf.distribute.MirroredStrategy([device])
    settings = BEST if arguments.worker == "defaults" else {}  # the paper's are those of TrainConfig
    given = {"image_size": size, "batch_size": batch, "precision": arguments.precision, "statistics": "moving"}
    config = TrainConfig(**{**settings, **given})
    if arguments.inference:
        generate, image = make_inference(build_generator(config, compact_weights=True)), tf.constant(images[0])
        return (lambda: generate(image).numpy()), lambda: None
    networks = build_networks(config, strategy, 10**6, 0)
    train_steps = make_train_steps(
        strategy,
        *networks.trained,
        config.lambda_l1,
        networks.step,
        average=networks.average,
        ema_decay=config.ema_decay,
        augment=partial(augment_pairs, target_kind=RGB) if config.diffaugment else None,
        dropout=config.dropout,
    )
    iterator = iter(strategy.experimental_distribute_dataset(data))
    return (lambda: train_steps(iterator, tf.constant(1)).numpy()), lambda: None


def prepare_tutorial(keras, tf, data, precision, size):
    """The step of TensorFlow's tutorial, with Keras' own layers and Adam, over the same architecture."""
    dtype = "mixed_bfloat16" if precision == "bfloat16" else "float32"
    weights = keras.initializers.RandomNormal(0.0, 0.02)
    depth = size.bit_length() - 1

    def conv(filters, stride=2, padding="same", transposed=False, bias=False):
        layer = keras.layers.Conv2DTranspose if transposed else keras.layers.Conv2D
        return layer(filters, 4, stride, padding, use_bias=bias, kernel_initializer=weights, dtype=dtype)

    def norm():
        return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype=dtype)

    filters = [64 * min(2**i, 8) for i in range(depth)]
    image = x = keras.Input((size, size, 3))
    skips = []
    for i, width in enumerate(filters):
        x = keras.layers.LeakyReLU(0.2, dtype=dtype)(x) if i else x
        x = conv(width, bias=i in (0, depth - 1))(x)
        x = norm()(x) if 0 < i < depth - 1 else x
        skips.append(x)
    for i in reversed(range(depth - 1)):
        x = norm()(conv(filters[i], transposed=True)(keras.layers.ReLU(dtype=dtype)(x)))
        x = keras.layers.Dropout(0.5, dtype=dtype)(x) if i >= depth - 4 else x
        x = keras.layers.Concatenate(dtype=dtype)([x, skips[i]])
    x = conv(3, transposed=True, bias=True)(keras.layers.ReLU(dtype=dtype)(x))
    generator = keras.Model(image, keras.layers.Activation("tanh", dtype="float32")(x))

    image, target = keras.Input((size, size, 3)), keras.Input((size, size, 3))
    x = keras.layers.Concatenate(dtype=dtype)([image, target])
    for i, (width, stride) in enumerate(((64, 2), (128, 2), (256, 2), (512, 1))):
        x = keras.layers.ZeroPadding2D(dtype=dtype)(x) if stride == 1 else x
        x = conv(width, stride, "valid" if stride == 1 else "same", bias=i == 0)(x)
        x = keras.layers.LeakyReLU(0.2, dtype=dtype)(norm()(x) if i else x)
    x = conv(1, 1, "valid", bias=True)(keras.layers.ZeroPadding2D(dtype=dtype)(x))
    discriminator = keras.Model([image, target], keras.layers.Activation("linear", dtype="float32")(x))
    optimizers = [keras.optimizers.Adam(2e-4, beta_1=0.5) for _ in range(2)]
    cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)

    @tf.function(autograph=False)
    def train_step(image, target):
        with tf.GradientTape(persistent=True) as tape:
            generated = generator(image, training=True)
            real, fake = discriminator([image, target], training=True), discriminator([image, generated], training=True)
            generator_loss = cross_entropy(tf.ones_like(fake), fake) + 100 * tf.reduce_mean(tf.abs(target - generated))
            loss = cross_entropy(tf.ones_like(real), real) + cross_entropy(tf.zeros_like(fake), fake)
        optimizers[0].apply(tape.gradient(generator_loss, generator.trainable_variables), generator.trainable_variables)
        optimizers[1].apply(tape.gradient(loss, discriminator.trainable_variables), discriminator.trainable_variables)
        return loss

    for optimizer, model in zip(optimizers, (generator, discriminator), strict=True):
        optimizer.build(model.trainable_variables)
    iterator = iter(data)

    def step():
        image, target, _ = next(iterator)
        return train_step(image, target).numpy()

    return step


def prepare_torch(arguments: argparse.Namespace):
    import torch
    from pytorch_pix2pix import Trainer

    _, dtype, layout = arguments.worker.split()
    torch.manual_seed(0)
    batch, size, device = int(arguments.batch_size), arguments.image_size, arguments.device.replace("gpu", "cuda")
    if device == "cpu":
        torch.set_num_threads(os.cpu_count())
    trainer = Trainer(size, getattr(torch, dtype), layout == "channels_last", device)
    image, target = (torch.rand(batch, 3, size, size) * 2 - 1 for _ in range(2))
    finish = torch.cuda.synchronize if device == "cuda" else lambda: None
    if arguments.inference:
        trainer.generator.eval()
        image = image.to(trainer.device, memory_format=trainer.format)
        return (lambda: trainer.generate(image)), finish
    return (lambda: trainer.step(image, target)[0].item()), finish


def describe_cpu() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            lines = dict(line.split(":", 1) for line in file if ":" in line)
        found = {key.strip(): value.strip() for key, value in lines.items()}
        has = [flag for flag in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if flag in found["flags"].split()]
        return f"{os.cpu_count()} cores of {found['model name']} (family {found['cpu family']}; {', '.join(has[:2])})"
    except (OSError, KeyError, ValueError):
        return f"{os.cpu_count()} cores"


def describe_peak() -> str:
    code = (
        "import tensorflow as tf, time\n"
        "for dtype in (tf.bfloat16, tf.float32):\n"
        "    a = tf.cast(tf.random.normal((4096, 4096)), dtype); f = tf.function(lambda x: tf.matmul(x, x)); f(a)\n"
        "    times = []\n"
        "    for _ in range(5):\n"
        "        start = time.perf_counter(); float(f(a)[0, 0]); times.append(time.perf_counter() - start)\n"
        "    print(f'{2 * 4096**3 / min(times) / 1e9:.0f} GFLOP/s in {dtype.name}', end=', ')\n"
    )
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip().rstrip(",")


if __name__ == "__main__":
    main()
