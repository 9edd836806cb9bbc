"""An imported generator as a run, for every command. That its weights are PyTorch's is tested in test_read."""

import dataclasses
import shutil
from functools import partial

import numpy as np
import pytest
import tensorflow as tf
from conftest import call_command, names, quiet, share, small_config, tree, write_pairs
from PIL import Image

from p2p_keras.cli import translate as translate_command
from p2p_keras.config import TrainConfig
from p2p_keras.errors import UserError
from p2p_keras.evaluation.run import draw_curves, evaluate, open_evaluation
from p2p_keras.export import publication, write
from p2p_keras.export.open import check_export, open_model
from p2p_keras.images import codec
from p2p_keras.pytorch.read import Network
from p2p_keras.pytorch.run import write_run
from p2p_keras.system.files import checksum
from p2p_keras.training.run import train
from p2p_keras.workdir.folder import read_config
from p2p_keras.workdir.generator import build_generator, weights_checksum

CONFIG = TrainConfig(
    direction="BtoA",
    image_size=32,
    input_channels=3,
    output_channels=3,
    base_filters=4,
    precision="float32",
    statistics="per_image",
)


def _network() -> tuple[Network, np.ndarray]:
    """A generator, and what it makes of a grey ramp, (32, 32, 3) uint8."""
    tf.keras.utils.set_random_seed(0)
    generator = build_generator(CONFIG)
    layers = {layer.name: layer.get_weights() for layer in generator.layers if layer.weights}
    made = generator([codec.to_unit_range(_ramp()[None]), None], training=False)
    return Network(5, 3, 3, 4, "batch", layers), codec.from_unit_range(made.numpy()[0])


def _ramp() -> np.ndarray:
    return np.arange(32 * 32 * 3).reshape(32, 32, 3).astype(np.uint8)


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """A run as p2p-import writes it, not to be written to."""
    folder = tmp_path_factory.mktemp("imported")
    (folder / "latest_net_G.pth").write_bytes(b"weights")
    write_run(_network()[0], CONFIG, folder / "run", folder / "latest_net_G.pth")
    assert names(folder) == ["latest_net_G.pth", "run"]  # and nothing hidden beside
    return share(folder / "run")


def test_the_run_says_where_it_came_from(imported):
    config, record = read_config(imported / "config.json")
    assert config == CONFIG
    assert record["inference"] == {"statistics": "per_image", "noise": False}
    weights = imported.parent / "latest_net_G.pth"
    assert record["imported"] == {
        "path": str(weights),
        "sha256": checksum(weights),
        "network": "unet_32",
        "norm": "batch",
        "weights": weights_checksum(write.load_trained(imported).generator),
    }


@pytest.mark.slow
def test_it_translates_and_exports_what_the_generator_makes(imported, tmp_path):
    _, expected = _network()
    Image.fromarray(_ramp()).save(tmp_path / "ramp.png")
    flags = [f"--model={imported}", f"--input={tmp_path / 'ramp.png'}", f"--output={tmp_path / 'out'}"]
    assert call_command(translate_command, *flags) == 0
    with Image.open(tmp_path / "out" / "ramp.png") as image:
        made = np.asarray(image)
    assert np.abs(made - expected.astype(int)).max() <= 1  # graph and eager may round to either side
    trained = write.load_trained(imported)
    version = publication.publish(trained, tmp_path / "models", partial(write.write_saved_model, trained))
    assert check_export(version, trained) <= 1
    exported = open_model(tmp_path / "models").translate([_ramp()[None]], None)[0]
    assert np.abs(exported - expected.astype(int)).max() <= 1


def test_it_is_scored_on_pairs_that_are_named(imported, pairs_dir, tmp_path):
    run = shutil.copytree(imported, tmp_path / "run")
    with pytest.raises(UserError, match=r"was imported, without any pairs\. Say where some are: --data_dir"):
        open_evaluation(run, split="val")
    evaluation = open_evaluation(run, pairs_dir, split="val", limit=2)
    (record,) = evaluate(evaluation, None)
    assert [path.name for path in draw_curves([evaluation], [record])] == ["curves.png"]
    assert (record["step"], record["epoch"], record["count"]) == (0, 0, 2)
    assert record["weights"] == read_config(run / "config.json")[1]["imported"]["weights"]


@pytest.mark.slow
def test_a_run_begins_with_it_but_does_not_go_on_from_it(imported, pairs_dir, tmp_path, one_device):
    run = shutil.copytree(imported, tmp_path / "run")
    with pytest.raises(UserError, match=rf"an imported generator, .* --init_from={run}"):
        train(dataclasses.replace(CONFIG, data_dir=str(pairs_dir)), run, one_device, quiet)
    assert {name: content for name, content in tree(run).items() if name != ".lock"} == tree(imported)
    told = []
    config = small_config(pairs_dir, init_from=str(imported), epochs=None, steps=1)
    train(config, tmp_path / "new", one_device, told.append)
    assert told[0].endswith("step 0; the discriminator begins anew, for that run has none of this step")
    begun = read_config(tmp_path / "new" / "config.json")[1]["init_from"]
    assert begun["weights"] == read_config(imported / "config.json")[1]["imported"]["weights"]


def test_what_is_there_stays(imported, tmp_path):
    network, _ = _network()
    write_pairs(tmp_path / "taken", 1)
    before = tree(tmp_path)
    (tmp_path / "empty").mkdir()
    source = imported.parent / "latest_net_G.pth"
    for output in (tmp_path / "taken", tmp_path / "taken" / "000.png", tmp_path / "taken" / "000.png" / "run"):
        with pytest.raises(UserError, match="--output must be a new folder that can be written"):
            write_run(network, CONFIG, output, source)
    assert tree(tmp_path) == before
    write_run(network, CONFIG, tmp_path / "empty", source)
    assert read_config(tmp_path / "empty" / "config.json")[0] == CONFIG
