"""Installs p2p_keras and its commands. requirements.txt pins the versions that were tested."""

import re
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
version = re.search(r'VERSION = "(.+)"', (here / "p2p_keras/versions.py").read_text()).group(1)

setup(
    name="p2p_keras",
    version=version,
    description="pix2pix in TensorFlow/Keras: paired image-to-image translation, first of all aerial <-> street",
    long_description=(here / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["p2p_keras", "p2p_keras.*"]),
    package_data={"p2p_keras.pretrained": ["town/**"], "p2p_keras.report": ["templates/*"]},
    python_requires=">=3.10,<3.14",
    install_requires=[
        "tensorflow>=2.21,<2.22",
        "keras>=3.12,<4",
        "tensorflow-gan>=2.1,<3",
        "tensorflow-probability>=0.25",  # tensorflow-gan's formulas import it without declaring it
        "numpy>=2",
        "pillow>=11",
        "absl-py>=2",
        "matplotlib>=3.9",
    ],
    extras_require={
        "gpu": ["tensorflow[and-cuda]>=2.21,<2.22"],
        # ruff exactly, since its formatting is part of the test; tensorflow-serving-api for the messages of TF
        # Serving's clients; jinja2 and selenium for the report and the Chromium that looks at it
        "test": [
            "pytest==9.2.0",
            "pytest-xdist==3.8.0",
            "hypothesis==6.170.17",
            "ruff==0.17.6",
            "tensorflow-serving-api>=2.21,<2.22",
            "jinja2>=3.1,<4",
            "selenium>=4.30",
        ],
        "demo": ["gradio>=6.31,<7"],
        "notebook": ["ipykernel>=7", "nbclient>=0.10"],  # to run docs/pix2pix_keras.ipynb
        "bench": ["torch>=2.4"],
        "report": ["jinja2>=3.1,<4"],
        "torch": ["torch>=2.6"],  # for p2p-import; before 2.6 its reader of weights could be made to run a file's code
    },
    entry_points={
        "console_scripts": [
            "p2p-prepare = p2p_keras.cli.prepare:entry_point",
            "p2p-train = p2p_keras.cli.train:entry_point",
            "p2p-eval = p2p_keras.cli.eval:entry_point",
            "p2p-export = p2p_keras.cli.export:entry_point",
            "p2p-translate = p2p_keras.cli.translate:entry_point",
            "p2p-import = p2p_keras.cli.import_:entry_point",
            "p2p-doctor = p2p_keras.cli.doctor:entry_point",
            "p2p-report = p2p_keras.cli.report:entry_point",
            "p2p-demo = p2p_keras.cli.demo:entry_point",
        ]
    },
)
