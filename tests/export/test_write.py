import base64
import dataclasses
import errno
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import draw_pair, share
from PIL import Image
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import predict_pb2

from p2p_keras.errors import UserError
from p2p_keras.export import publication, signatures, write
from p2p_keras.export.open import _of_generate, check_export, open_model
from p2p_keras.export.weights import read_weights
from p2p_keras.images import codec
from p2p_keras.images.files import encode_png
from p2p_keras.models import make_inference
from p2p_keras.system.files import checksum
from p2p_keras.workdir.generator import build_generator

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def trained(finished) -> write.Trained:
    """A run's generator with livelier weights than two epochs give: differences could show in every pixel."""
    loaded = write.load_trained(finished[0], "latest", "float32")
    _enliven(loaded.generator)
    return loaded


def _enliven(generator: keras.Model) -> None:
    rng = np.random.default_rng(0)
    for layer in generator.layers:
        weights = layer.get_weights()
        if len(weights) == 4:  # gamma, beta, and the moving mean and variance
            drawn = [rng.uniform(low, high, weights[0].shape) for low, high in ((0.5, 2), (-1, 1), (-1, 1), (0.3, 3))]
            layer.set_weights(drawn)
        elif weights:
            layer.set_weights([w + rng.normal(0, 2 / np.sqrt(w[..., 0].size), w.shape) for w in weights])


@pytest.fixture(scope="module")
def saved_model(trained, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    return share(publication.publish(trained, folder, lambda f: write.write_saved_model(trained, f)))


@pytest.fixture(scope="module")
def noisy_model(trained, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("noisy")
    return share(
        publication.publish(trained, folder, lambda f: write.write_saved_model(trained, f, noise=True), noise=True)
    )


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.stack([draw_pair(index)[0] for index in range(300, 305)])


@pytest.fixture(scope="module")
def expected(trained, images) -> np.ndarray:
    """What the trainer itself generates."""
    found = codec.from_unit_range(make_inference(trained.generator)(codec.to_unit_range(images)).numpy())
    assert found.std() > 30
    return found


def _assert_same_pixels(ours, expected) -> None:
    """Kernels chosen for another batch or graph add up in another order: one level where it was about to round."""
    difference = np.abs(np.asarray(ours).astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.001


@pytest.mark.parametrize(
    "settings",
    [
        {"statistics": "per_image"},
        pytest.param({"statistics": "moving"}, marks=pytest.mark.slow),
        pytest.param({"statistics": "per_image", "upsampling": "resize"}, marks=pytest.mark.slow),
    ],
)
def test_every_format_gives_the_trainers_pixels(trained, images, tmp_path, settings):
    config = dataclasses.replace(trained.config, **settings)
    generator = build_generator(config, any_size=True)
    _enliven(generator)
    model = write.Trained(generator, config, trained.step, trained.workdir)
    expected = codec.from_unit_range(make_inference(generator)(codec.to_unit_range(images)).numpy())
    for name, fill in (
        ("savedmodel", write.write_saved_model),
        ("keras", write.write_keras),
        ("tflite", write.write_tflite),
    ):
        folder = publication.publish(model, tmp_path / name, lambda f, fill=fill: fill(model, f))
        _assert_same_pixels(open_model(folder).translate([images], None), expected)
        assert open_model(tmp_path / name).contract.image_size == (32, 32)
    weights = read_weights(tmp_path / "keras").values
    for variable in generator.weights:  # of a kernel of 3 sums and differences, so to a few roundings
        if variable.path in weights:
            np.testing.assert_allclose(weights[variable.path], variable.numpy(), rtol=0, atol=1e-6)
    assert len(weights) == len(generator.weights) - (0 if config.statistics == "moving" else 2 * 7)
    # Weights of 8 bits are off by 1/254 of each channel's largest, through a dozen layers: a few levels in the mean.
    eight_bit = open_model(tmp_path / "tflite" / "1" / "model_int8.tflite").translate([images], None)
    assert np.abs(eight_bit.astype(int) - expected).mean() < 4


@pytest.mark.slow
@pytest.mark.parametrize("noise", [False, True])
def test_an_export_from_before_crops_is_used_at_the_scale_trained_at(trained, saved_model, tmp_path, noise):
    """Its own `translate` keeps an image of another size in its resolution, as that of native crops does."""
    old = signatures.make_functions(
        write.as_generate(trained.generator), signatures.contract_of(trained.config)._replace(native=True)
    )

    def endpoint(function):
        if noise:
            return lambda image, seed: {"image": function((image,), signatures.seed_pairs(seed))}
        return lambda image: {"image": function((image,), None)}

    archive, folder = keras.export.ExportArchive(), tmp_path / "1"
    for name, dtype in (("translate", tf.uint8), ("translate_float", tf.float32), ("tiled", tf.uint8)):
        specs = [tf.TensorSpec((None, None, None, 3), dtype, "image")]
        specs += [tf.TensorSpec((None,), tf.int32, "seed")] if noise else []
        archive.add_endpoint(name, endpoint(getattr(old, name)), specs)
    archive.write_out(str(folder), verbose=False)
    metadata = json.loads((saved_model / publication.METADATA).read_text())
    for setting in ("load_size", "mirror", "crops", "input_panels", "target_panel"):
        del metadata["config"][setting]
    del metadata["sha256"], metadata["crc32"]
    (folder / publication.METADATA).write_text(json.dumps(metadata))

    image, seed = [draw_pair(301, size=48)[0][None]], np.full(1, 7, np.int32) if noise else None
    generate = write.as_generate(trained.generator)
    ours, theirs = _of_generate(generate, trained.config, noise=True), open_model(folder)
    _assert_same_pixels(theirs.translate(image, seed), ours.translate(image, seed))
    _assert_same_pixels(theirs.tiled(image, seed), ours.tiled(image, seed))


@pytest.mark.slow
def test_bfloat16_is_exported_with_weights_of_half_the_size(finished, saved_model, images, tmp_path):
    trained = write.load_trained(finished[0], "latest", "bfloat16")
    folder = publication.publish(trained, tmp_path, lambda f: write.write_saved_model(trained, f))
    size, full = ((path / "variables/variables.data-00000-of-00001").stat().st_size for path in (folder, saved_model))
    assert size < 0.6 * full
    expected = open_model(finished[0]).translate([images], None)  # the run's own precision is float32
    found = open_model(folder).translate([images], None)
    assert np.abs(found.astype(int) - expected).max() <= 8  # levels; of 8 bits a number is off by up to half a level
    generator = write.as_generate(trained.generator)
    own = codec.from_unit_range(generator(codec.to_unit_range(images), None).numpy())
    # No _assert_same_pixels: sums in another order fall on either side of a rounding to 8 bits, at every layer.
    assert np.abs(found.astype(int) - own).max() <= 4


def test_signatures_agree_with_each_other_and_with_the_trainer(saved_model, images, expected):
    signatures = tf.saved_model.load(str(saved_model)).signatures
    assert set(signatures) == {"serving_default", "translate", "translate_float", "tiled"}
    _assert_same_pixels(signatures["translate"](image=tf.constant(images))["image"], expected)
    floats = signatures["translate_float"](image=codec.to_unit_range(images))["image"]
    _assert_same_pixels(codec.from_unit_range(floats.numpy()), expected)
    files = tf.constant([encode_png(image) for image in images])
    encoded = signatures["serving_default"](image_bytes=files)["image_bytes"]
    _assert_same_pixels([np.asarray(Image.open(io.BytesIO(one))) for one in encoded.numpy()], expected)
    wide = signatures["translate"](image=tf.zeros((1, 20, 45, 3), tf.uint8))["image"]
    assert wide.shape == (1, 20, 45, 3)
    assert signatures["tiled"](image=tf.zeros((1, 70, 45, 3), tf.uint8))["image"].shape == (1, 70, 45, 3)


def test_an_image_never_depends_on_its_batch(saved_model, images):
    translate = tf.saved_model.load(str(saved_model)).signatures["translate"]
    together = translate(image=tf.constant(images))["image"].numpy()
    alone = np.concatenate([translate(image=tf.constant(image[None]))["image"] for image in images])
    _assert_same_pixels(alone, together)
    reordered = translate(image=tf.constant(images[::-1]))["image"].numpy()[::-1]
    np.testing.assert_array_equal(reordered, together)  # the same kernels, so bit for bit


def _operations(saved_model: Path, signature: str) -> set[str]:
    """Operations of a signature's graph and of every function that it calls, however deep."""
    function = tf.saved_model.load(str(saved_model)).signatures[signature]
    graph = function.graph.as_graph_def(add_shapes=False)
    library = {f.signature.name: f for f in graph.library.function}
    found, waiting, met = set(), [list(graph.node)], set()
    while waiting:
        for node in waiting.pop():
            found.add(node.op)
            for attribute in node.attr.values():
                for name in [attribute.func.name, *(f.name for f in attribute.list.func)]:
                    if name in library and name not in met:
                        met.add(name)
                        waiting.append(list(library[name].node_def))
    return found


@pytest.mark.parametrize("noise", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_graph_assigns_nothing_and_draws_nothing_of_its_own(saved_model, noisy_model, noise):
    model = noisy_model if noise else saved_model
    for signature in ("serving_default", "translate", "translate_float", "tiled"):
        found = _operations(model, signature)
        assert "Conv2D" in found
        assert not {name for name in found if "Assign" in name}
        drawing = {name for name in found if "Random" in name}
        assert all(name.startswith("Stateless") for name in drawing)
        assert ("BitwiseXor" in found) is noise  # of which the noise is made


def test_noise_is_a_function_of_the_seed(noisy_model, images):
    model = open_model(noisy_model)
    assert model.noise
    one, again, other = (model.translate([images], np.full(5, seed, np.int32)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert np.abs(one.astype(int) - other).mean() > 5
    _assert_same_pixels(model.translate([images[2:3]], np.array([1], np.int32)), one[2:3])


def test_a_fresh_process_without_p2p_keras_loads_every_format(trained, saved_model, images, expected, tmp_path):
    keras_file = publication.publish(trained, tmp_path / "k", lambda f: write.write_keras(trained, f)) / "model.keras"
    np.save(tmp_path / "in.npy", images)
    code = f"""
import sys
sys.path = [p for p in sys.path if p != {str(TESTS.parent)!r}]
sys.modules["p2p_keras"] = None  # importing it is an error now
import keras, numpy as np, tensorflow as tf
images = np.load({str(tmp_path / "in.npy")!r})
np.save({str(tmp_path / "saved.npy")!r}, tf.saved_model.load({str(saved_model)!r}).signatures["translate"](
    image=tf.constant(images))["image"])
np.save({str(tmp_path / "keras.npy")!r}, keras.saving.{"load_model"}({str(keras_file)!r}).predict(
    images / np.float32(127.5) - 1, verbose=0))
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True)
    _assert_same_pixels(np.load(tmp_path / "saved.npy"), expected)
    _assert_same_pixels(codec.from_unit_range(np.load(tmp_path / "keras.npy")), expected)


def test_the_loader_of_tf_serving_gives_the_same_pixels(saved_model, images, expected, tmp_path):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler on this machine")
    package = Path(tf.__file__).parent
    libraries = [str(package / "libtensorflow_cc.so.2"), str(package / "libtensorflow_framework.so.2")]
    program = tmp_path / "serve"
    subprocess.run(
        [compiler, "-o", program, TESTS / "serve.c", "-I", package / "include", *libraries, f"-Wl,-rpath,{package}"],
        check=True,
    )
    parsed = saved_model_pb2.SavedModel.FromString((saved_model / "saved_model.pb").read_bytes())
    signature = parsed.meta_graphs[0].signature_def["translate"]
    source = signature.inputs["image"].name.split(":")[0]
    target, index = signature.outputs["image"].name.split(":")
    count, height, width, _ = images.shape
    arguments = [saved_model, source, target, index, str(height), str(width), str(count)]
    reply = subprocess.run([program, *arguments], input=images.tobytes(), check=True, capture_output=True).stdout
    _assert_same_pixels(np.frombuffer(reply, np.uint8).reshape(images.shape), expected)


def test_a_real_client_is_understood(saved_model, images, expected):
    """gRPC's messages and REST's JSON, through the mapping that TF Serving applies to them."""
    signatures = tf.saved_model.load(str(saved_model)).signatures

    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "p2p", "translate"
    request.inputs["image"].CopyFrom(tf.make_tensor_proto(images))
    received = predict_pb2.PredictRequest.FromString(request.SerializeToString())
    inputs = {name: tf.constant(tf.make_ndarray(proto)) for name, proto in received.inputs.items()}
    response = predict_pb2.PredictResponse()
    for name, value in signatures[received.model_spec.signature_name](**inputs).items():
        response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
    parsed = predict_pb2.PredictResponse.FromString(response.SerializeToString())
    _assert_same_pixels(tf.make_ndarray(parsed.outputs["image"]), expected)

    # "instances" lists rows, "inputs" columns; bytes travel as {"b64": ...}, and come back so from names in _bytes.
    coded = [{"b64": base64.b64encode(encode_png(image)).decode()} for image in images]
    for body in ({"instances": [{"image_bytes": one} for one in coded]}, {"inputs": {"image_bytes": coded}}):
        sent = json.loads(json.dumps(body))
        rows = (
            [row["image_bytes"] for row in sent["instances"]] if "instances" in sent else sent["inputs"]["image_bytes"]
        )
        files = tf.constant([base64.b64decode(row["b64"]) for row in rows])
        replies = signatures["serving_default"](image_bytes=files)
        assert set(replies) == {"image_bytes", "error"}
        assert not any(replies["error"].numpy())
        _assert_same_pixels(
            [np.asarray(Image.open(io.BytesIO(one))) for one in replies["image_bytes"].numpy()], expected
        )


def test_versions_count_up_and_none_is_overwritten(trained, tmp_path):
    def fill(folder: Path) -> None:
        folder.mkdir()
        (folder / "saved_model.pb").write_bytes(b"model")

    assert [publication.publish(trained, tmp_path, fill).name for _ in range(2)] == ["1", "2"]
    assert publication.publish(trained, tmp_path, fill, version=7).name == "7"
    assert publication.publish(trained, tmp_path, fill).name == "8"
    with pytest.raises(UserError, match=r"A version is never overwritten.*/7 exists"):
        publication.publish(trained, tmp_path, lambda folder: pytest.fail("it wrote"), version=7)
    metadata = json.loads((tmp_path / "8" / "metadata.json").read_text())
    assert metadata["step"] == 6
    assert metadata["config"]["image_size"] == 32
    assert metadata["sha256"] == {"saved_model.pb": checksum(tmp_path / "8" / "saved_model.pb")}
    assert "tensorflow" in metadata["versions"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2", "7", "8"]


def test_an_export_is_compared_with_the_trainer_before_it_is_published(trained, noisy_model, tmp_path):
    def fill(folder: Path) -> None:
        shutil.copytree(noisy_model, folder)

    told = []
    publication.publish(trained, tmp_path, fill, check=lambda f: told.append(check_export(f, trained)), noise=True)
    assert told[0] <= 1
    other = write.load_trained(trained.workdir, "latest", "float32")  # as it was before it was made lively
    with pytest.raises(UserError, match=r"levels off, so it was not published"):
        publication.publish(trained, tmp_path, fill, check=lambda f: check_export(f, other))
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    assert json.loads((tmp_path / "1" / "metadata.json").read_text())["inference"]["noise"] is True


def test_a_failed_export_leaves_nothing(trained, tmp_path):
    def fail(folder: Path) -> None:
        folder.mkdir()
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"No space left on device\. Nothing there has changed"):
        publication.publish(trained, tmp_path, fail)

    def fail_in_tensorflow(folder: Path) -> None:
        text = "{{function_node __wrapped__SaveV2}} FILE; File too large [Op:SaveV2]"
        raise tf.errors.UnknownError(None, None, text)

    with pytest.raises(UserError, match=r": FILE; File too large\. Nothing there has changed"):
        publication.publish(trained, tmp_path, fail_in_tensorflow)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--output must be a folder that can be written"):
        publication.publish(trained, tmp_path / "file" / "x", fail)


def _fill(folder: Path) -> None:
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"model")


def test_what_killed_exports_left_goes_with_the_next_one(trained, tmp_path):
    (tmp_path / ".part-dead" / "version").mkdir(parents=True)

    def fill(folder: Path) -> None:
        _fill(folder)
        publication.publish(trained, tmp_path, _fill)  # meanwhile another one is written, which leaves this one alone

    publication.publish(trained, tmp_path, fill)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


def test_an_export_that_the_disk_does_not_confirm_is_not_said_to_have_changed_nothing(trained, tmp_path, monkeypatch):
    def fail(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(publication, "sync_path", fail)
    with pytest.raises(UserError, match=r"/1 is whole, but the disk did not confirm its name: Input/output error"):
        publication.publish(trained, tmp_path, _fill)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_plain_models_have_only_kerass_own_layers(trained):
    modules = {type(layer).__module__.split(".")[0] for layer in write.plain_generator(trained).layers}
    assert modules == {"keras"}


@pytest.mark.slow
def test_the_newest_tf_serving_image_loads_it(saved_model, images, expected, tmp_path):
    """It has TensorFlow 2.20: an environment of its own, from the package index."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "tensorflow-cpu==2.20.0"], check=True)
    np.save(tmp_path / "in.npy", images)
    code = f"""
import numpy as np, tensorflow as tf
assert tf.__version__.startswith("2.20")
signatures = tf.saved_model.load({str(saved_model)!r}).signatures
np.save("out.npy", signatures["translate"](image=tf.constant(np.load("in.npy")))["image"])
"""
    subprocess.run([python, "-c", code], check=True, cwd=tmp_path)
    _assert_same_pixels(np.load(tmp_path / "out.npy"), expected)


def test_a_checkpoint_that_is_not_there_is_refused_in_words_that_fit(finished):
    for which in ("all", "999", "newest", "٦"):
        with pytest.raises(UserError, match=rf"--checkpoint is latest, best or a step\. Received: {which}"):
            write.load_trained(finished[0], which)
