"""What an export costs, next to calling the Keras model directly: load time, size, latency, images a second, memory.

    python benchmarks/serving.py --workdir=runs/a2s

Both in float32, on images of the size trained on, uint8 in and uint8 out. Rounds of both alternate in one process;
the ratio is the median over the rounds; load time and peak memory are of a process of its own.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tensorflow as tf

from p2p_keras.export import publication, write
from p2p_keras.images import codec

ROUNDS = 15
LOAD = """
import pathlib, re, sys, time
import tensorflow as tf

def peak():  # in GB; ru_maxrss would begin with the parent's
    return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text()).group(1)) / 1e6

before = peak()
started = time.perf_counter()
translate = tf.saved_model.load(sys.argv[1]).signatures["translate"]
loaded = time.perf_counter() - started
translate(image=tf.zeros((8, int(sys.argv[2]), int(sys.argv[2]), 3), tf.uint8))
print(f"loaded in {loaded:.2f} s; peak memory at batch 8 {peak():.2f} GB, {before:.2f} GB of it TensorFlow")
"""

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--workdir", type=Path, required=True)
arguments = parser.parse_args()

trained = write.load_trained(arguments.workdir, precision="float32")
size = trained.config.image_size


@tf.function(autograph=False)
def direct(image: tf.Tensor) -> tf.Tensor:
    return codec.quantise(trained.generator([codec.to_unit_range(image), None], training=False))


def seconds(call, image: tf.Tensor) -> float:
    started = time.perf_counter()
    call(image)
    return time.perf_counter() - started


with tempfile.TemporaryDirectory() as folder:
    version = publication.publish(trained, Path(folder), lambda f: write.write_saved_model(trained, f))
    disk = sum(path.stat().st_size for path in version.rglob("*") if path.is_file())
    print(f"step {trained.step}, {size}x{size}: {disk / 1e6:.1f} MB on disk")
    print(
        subprocess.run([sys.executable, "-c", LOAD, version, str(size)], capture_output=True, text=True).stdout, end=""
    )
    signature = tf.saved_model.load(str(version)).signatures["translate"]
    calls = {"Keras": lambda x: direct(x).numpy(), "export": lambda x: signature(image=x)["image"].numpy()}
    for batch in (1, 8):
        image = tf.constant(np.random.default_rng(0).integers(0, 256, (batch, size, size, 3)).astype(np.uint8))
        for call in calls.values():
            call(image)  # traces
        rounds = [{name: seconds(call, image) for name, call in calls.items()} for _ in range(ROUNDS)]
        medians = {name: statistics.median(each[name] for each in rounds) for name in calls}
        ratio = statistics.median(each["export"] / each["Keras"] for each in rounds)
        line = ", ".join(f"{name} {1e3 * t:.0f} ms ({batch / t:.1f} images/s)" for name, t in medians.items())
        print(f"batch {batch}: {line}; export / Keras {ratio:.3f}")
