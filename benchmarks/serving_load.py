"""An export under load, through TensorFlow's C API as TF Serving uses it: memory over time, and equal replies.

    python benchmarks/serving_load.py --model=models/a2s/1 --threads=8 --secs=60 photos/*.jpg

Each of the threads sends all the files as one batch to `serving_default`, again and again. Needs a C compiler. Prints
the resident memory every tenth of the time, requests a second, and how many replies were not, byte for byte, what one
thread alone had got.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

HERE = Path(__file__).parent


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="A version's folder, as models/a2s/1.")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--secs", type=float, default=60)
    parser.add_argument("files", nargs="+", help="JPEG or PNG files of the model's input; a bad one is served, too.")
    arguments = parser.parse_args()
    parsed = saved_model_pb2.SavedModel.FromString((Path(arguments.model) / "saved_model.pb").read_bytes())
    signature = parsed.meta_graphs[0].signature_def["serving_default"]
    source = signature.inputs["image_bytes"].name.split(":")[0]
    target, index = signature.outputs["image_bytes"].name.split(":")
    with tempfile.TemporaryDirectory() as folder:
        program = compile_program(HERE / "serving_load.c", Path(folder) / "serving_load")
        command = [program, arguments.model, source, target, index, arguments.threads, arguments.secs]
        done = subprocess.run(
            [*map(str, command), *arguments.files], capture_output=True, text=True, env={"TF_CPP_MIN_LOG_LEVEL": "2"}
        )
    if done.returncode not in (0, 1) or not done.stdout:
        print(done.stderr.strip(), file=sys.stderr)
        return 2
    rows = [[float(cell) for cell in line.split()] for line in done.stdout.splitlines()]
    for secs, requests, memory, different in rows:
        print(f"{secs:5.0f} s  {requests:6.0f} requests  {memory:6.0f} MB  {different:.0f} replies differ")
    images = rows[-1][1] * len(arguments.files)
    grown = rows[-1][2] - rows[4][2]
    print(f"{images / rows[-1][0]:.1f} images/s by {arguments.threads} threads; second half: {grown:+.0f} MB")
    return done.returncode


def compile_program(source: Path, program: Path) -> Path:
    """Against the libraries of the installed TensorFlow."""
    package = Path(tf.__file__).parent
    libraries = [package / "libtensorflow_cc.so.2", package / "libtensorflow_framework.so.2"]
    compiler = shutil.which("cc") or shutil.which("gcc") or sys.exit("There is no C compiler on this machine")
    options = ["-O1", "-pthread", "-I", package / "include", *libraries, f"-Wl,-rpath,{package}"]
    subprocess.run([compiler, "-o", program, source, *options], check=True)
    return program


if __name__ == "__main__":
    sys.exit(main())
