import re
import shutil
import tarfile

import numpy as np
import pytest
import tensorflow as tf
from conftest import Page, share
from PIL import Image

from p2p_keras.errors import UserError
from p2p_keras.metrics import frozen_graph, inception
from p2p_keras.metrics.inception import Extractor, load_extractor, preprocess
from p2p_keras.system.fetch import content_checksum

WEIGHTS = np.random.RandomState(0).randn(7, 7, 3, 6).astype(np.float32) / 7
HEAD = np.random.RandomState(1).randn(6, 4).astype(np.float32)
BIAS = np.array([10, -20, 30, -40], np.float32)
NORM = {  # the first layer's batch normalisation
    "mean": np.random.RandomState(2).randn(6).astype(np.float32),
    "variance": np.random.RandomState(3).rand(6).astype(np.float32) + 0.5,
    "beta": np.random.RandomState(4).randn(6).astype(np.float32),
    "gamma": np.random.RandomState(5).rand(6).astype(np.float32) + 0.5,
}
EPSILON = 0.001


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch):
    """The user's cache folder, in which the sums of what is fetched are recorded."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    return home


def draw_images(count, height=299, width=299, seed=0):
    return np.random.RandomState(seed).randint(0, 256, (count, height, width, 3), dtype=np.uint8)


def convolved(images):
    """(B, 299, 299, 3) -> (B, 37, 37, 6)."""
    return tf.nn.conv2d(images, WEIGHTS, 8, "VALID")


class Network(tf.Module):
    """A small stand-in for TF-GAN's module. `pool_3` has (B, 1, 1, 6), as the original graph's."""

    def __init__(self):
        super().__init__()
        self.head = tf.Variable(HEAD)

    def features(self, images):
        return tf.reduce_mean(convolved(images), (1, 2), keepdims=True)

    @tf.function(input_signature=[tf.TensorSpec((None, 299, 299, 3), name="images")])
    def both(self, images):
        features = self.features(images)
        return {"pool_3": features, "logits": tf.matmul(features[:, 0, 0], self.head)}

    @tf.function(input_signature=[tf.TensorSpec((None, 299, 299, 3), name="images")])
    def features_only(self, images):
        return {"pool_3": self.features(images)}

    @tf.function(input_signature=[tf.TensorSpec((None, 299, 299, 3), name="images")])
    def of_other_names(self, images):
        return {"output_0": self.features(images)}

    @tf.function(input_signature=[tf.TensorSpec((None, 299, 299, 3), name="images")])
    def of_the_batch(self, images):
        return {"pool_3": tf.reduce_mean(self.features(images), 0)}

    @tf.function(input_signature=[tf.TensorSpec((None, 32, 32, 3), name="images")])
    def of_another_size(self, images):
        return {"pool_3": tf.reduce_mean(images, (1, 2))}

    @tf.function(input_signature=[tf.TensorSpec((1, 299, 299, 3), name="images")])
    def of_one(self, images):
        return {"pool_3": self.features(images)}

    @tf.function(input_signature=[tf.TensorSpec((None, 299, 299, 3), name="images")])
    def of_one_inside(self, images):
        return {"pool_3": tf.reshape(self.features(images), (1, 6))}

    @tf.function(input_signature=[tf.TensorSpec((None, 299, 299, 3), name="images")])
    def not_finite(self, images):
        return {"pool_3": self.features(images) / 0.0}


def save_network(folder, signatures):
    network = Network()
    tf.saved_model.save(network, str(folder), {key: getattr(network, name) for key, name in signatures.items()})
    return folder


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    return share(save_network(tmp_path_factory.mktemp("saved_model"), {"serving_default": "both"}))


def old_graph(scale_after_normalization=True, logits=False):
    """Like classify_image_graph_def.pb: decoding in front, all for one image, and an op of GraphDef version 8."""
    with tf.Graph().as_default() as tf_graph:
        contents = tf.compat.v1.placeholder(tf.string, (), name="DecodeJpeg/contents")
        image = tf.cast(tf.io.decode_jpeg(contents, channels=3), tf.float32, name="Cast")
        image = tf.expand_dims(image, 0, name="ExpandDims")
        image = tf.raw_ops.ResizeBilinear(images=image, size=(299, 299), name="ResizeBilinear")
        image = tf.raw_ops.Mul(x=tf.raw_ops.Sub(x=image, y=128.0, name="Sub"), y=1 / 128, name="Mul")
        tf.nn.conv2d(image, WEIGHTS, 8, "VALID", name="conv/Conv2D")
        for name, values in NORM.items():
            tf.constant(values, name=f"conv/batchnorm/{name}")
        normalised = tf.compat.v1.placeholder(tf.float32, (1, 37, 37, 6), name="conv/batchnorm")
        with tf.control_dependencies([tf.debugging.check_numerics(normalised, "", name="conv/CheckNumerics")]):
            checked = tf.identity(normalised, name="conv/control_dependency")
        pool_3 = tf.nn.avg_pool2d(tf.nn.relu(checked, name="conv"), 37, 1, "VALID", name="pool_3")
        product = tf.matmul(tf.reshape(pool_3, (1, 6), name="pool_3/_reshape"), HEAD, name="softmax/logits/MatMul")
        tf.nn.softmax(tf.nn.bias_add(product, BIAS, name="softmax/logits"), name="softmax")
        if logits:
            tf.identity(3 * pool_3, name="logits")
    graph = tf_graph.as_graph_def(add_shapes=True)
    for node in graph.node:
        if node.name == "conv/batchnorm":
            node.Clear()
            node.name, node.op = "conv/batchnorm", "BatchNormWithGlobalNormalization"
            node.input.extend(["conv/Conv2D", *(f"conv/batchnorm/{name}" for name in NORM)])
            node.attr["T"].type = tf.float32.as_datatype_enum
            node.attr["variance_epsilon"].f = EPSILON
            node.attr["scale_after_normalization"].b = scale_after_normalization
        for name in ("explicit_paddings", "dilations"):  # invented after 2015
            node.attr.pop(name, None)
    graph.versions.Clear()
    graph.versions.producer = 8
    return graph


def write_graph(path, graph):
    path.write_bytes(graph.SerializeToString())
    return str(path)


def features_of_old_graph(images, scale):
    """The op's definition, in float64."""
    values = convolved(preprocess(images)).numpy().astype(np.float64)
    values = (values - NORM["mean"]) / np.sqrt(NORM["variance"] + EPSILON) * scale + NORM["beta"]
    return np.maximum(values, 0).mean((1, 2))


def resized_by_pillow(image):
    """As clean-fid does: every channel in float."""
    channels = [Image.fromarray(channel.astype(np.float32)) for channel in np.moveaxis(image, -1, 0)]
    resized = [channel.resize((299, 299), Image.Resampling.BICUBIC) for channel in channels]
    return np.clip(np.stack([np.asarray(channel) for channel in resized], -1), 0, 255)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (256, 256), (299, 299), (512, 700), (299, 1200)])
def test_every_pixel_is_resized_as_clean_fid_does(height, width):
    images = draw_images(2, height, width)
    images[1] = (images[1] > 127) * 255
    expected = np.stack([resized_by_pillow(image) for image in images])
    assert expected.min() == 0  # black and white overshoot, so clipping is compared too
    assert expected.max() == 255
    levels = preprocess(tf.constant(images)).numpy() * 128 + 128
    # TensorFlow places and weighs the kernel in float32, Pillow in float64: 0.009 levels at most for this noise, 0.002
    # for photographs. Another kernel, or none against aliasing, is several levels off.
    np.testing.assert_allclose(levels, expected, rtol=0, atol=0.02)


def test_levels_become_minus_one_to_one():
    ends = preprocess(tf.constant([[[[0, 128, 255]]]], tf.uint8)).numpy()
    # One pixel enlarged stays itself up to the rounding of the kernel's weights (6e-8), times 255 / 128.
    np.testing.assert_allclose(ends, np.broadcast_to([-1, 0, 127 / 128], (1, 299, 299, 3)), rtol=0, atol=1e-6)


def test_a_saved_model_gives_its_features_and_logits(saved_model):
    extractor = load_extractor(str(saved_model))
    assert extractor[1:] == (str(saved_model), content_checksum(saved_model), 6, 4)
    features, logits = extractor.run(draw_images(3, 40, 56))
    expected = tf.reduce_mean(convolved(preprocess(draw_images(3, 40, 56))), (1, 2)).numpy()
    assert features.dtype == logits.dtype == np.float32
    # The same operations in float32; only their order may differ (values of about 1).
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(logits, expected @ HEAD, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "signatures",
    [{"default": "features_only"}, {"serving_default": "of_other_names", "default": "features_only"}],
)
def test_the_signature_with_pool_3_is_taken(tmp_path, signatures):
    extractor = load_extractor(str(save_network(tmp_path / "deep" / "1", signatures).parent))
    assert (extractor.width, extractor.classes) == (6, None)
    assert extractor.run(draw_images(1))[1] is None


def test_without_a_signature_the_call_is_taken(tmp_path):
    network = Network()
    network.__class__ = type("Callable", (Network,), {"__call__": Network.both})
    tf.saved_model.save(network, str(tmp_path), {"other": network.features_only})
    assert load_extractor(str(tmp_path))[3:] == (6, 4)


def test_the_real_network_of_768_features(shared_data):
    extractor = load_extractor(str(shared_data / "inception-768"))
    assert (extractor.width, extractor.classes, extractor.label) == (768, None, "@768")


@pytest.mark.parametrize(("scale_after_normalization", "scale"), [(True, NORM["gamma"]), (False, 1.0)])
def test_the_graph_of_2015_runs_and_its_logits_have_no_bias(tmp_path, scale_after_normalization, scale):
    extractor = load_extractor(write_graph(tmp_path / "old.pb", old_graph(scale_after_normalization)))
    assert (extractor.width, extractor.classes) == (6, 4)
    images = draw_images(3, 60, 80)
    features, logits = extractor.run(images)
    expected = features_of_old_graph(images, scale)
    # float32 against float64 over a mean of 37 x 37 values of about 1; the bias would be 10 and more.
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(logits, expected @ HEAD, rtol=0, atol=1e-5)


def test_the_rewritten_op_equals_the_removed_one():
    """TensorFlow still runs it in a session over a graph that says it was written by version 8."""
    graph, new = old_graph(), old_graph()
    images = (draw_images(3) - 128.0) / 128.0
    frozen_graph._keep_between("Mul", ["pool_3"], new)
    for node in graph.node:
        node.attr.pop("_output_shapes", None)
    with tf.Graph().as_default():
        fed = tf.compat.v1.placeholder(tf.float32, (None, 299, 299, 3))
        fetched = [tf.graph_util.import_graph_def(old, {"Mul:0": fed}, ["pool_3:0"])[0] for old in (graph, new)]
        with tf.compat.v1.Session() as session:
            before, after = session.run(fetched, {fed: images})
    # Both are float32 and fold the four vectors in another order.
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-6)


def test_a_node_called_logits_is_taken_as_it_is(tmp_path):
    features, logits = load_extractor(write_graph(tmp_path / "old.pb", old_graph(logits=True))).run(draw_images(2))
    # A product of equal float32 numbers: no tolerance needed beyond one rounding.
    np.testing.assert_allclose(logits, 3 * features, rtol=1e-6)


def test_features_do_not_depend_on_the_batch(saved_model, tmp_path):
    images = draw_images(7, 64, 48)
    for source in (str(saved_model), write_graph(tmp_path / "old.pb", old_graph())):
        run = load_extractor(source).run
        whole = run(images)
        uneven = [run(images[i : i + 3]) for i in range(0, 7, 3)]
        single = [run(images[i : i + 1]) for i in range(7)]
        for parts in (uneven, single):
            for together, apart in zip(whole, map(np.concatenate, zip(*parts, strict=True)), strict=True):
                # The convolution may pick another order of summation for another batch size.
                np.testing.assert_allclose(apart, together, rtol=0, atol=1e-5)


def test_an_uneven_last_batch_traces_nothing_anew(saved_model, monkeypatch):
    traced = []
    monkeypatch.setattr(inception, "preprocess", lambda images: traced.append(images.shape) or preprocess(images))
    run = load_extractor(str(saved_model)).run
    for images in (draw_images(4), draw_images(3), draw_images(2, 64, 48)):
        run(images)
    assert len(traced) == 1


@pytest.mark.parametrize("before", [True, False])
def test_tensor_float_32_is_off_inside_and_as_before_outside(before):
    enabled = tf.config.experimental.tensor_float_32_execution_enabled
    seen = []

    def look(features):
        seen.append(enabled())
        assert not seen[2:], "a network may fail"
        return features

    def network(images):
        return {"pool_3": tf.py_function(look, [images[:, 0, 0]], tf.float32)}

    run = inception._make_run(network, "here")
    outside = enabled()
    try:
        tf.config.experimental.enable_tensor_float_32_execution(before)
        for _ in range(2):
            run(draw_images(1))
            assert enabled() is before
        with pytest.raises(tf.errors.UnknownError, match="a network may fail"):
            run(draw_images(1))
        assert enabled() is before
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(outside)
    assert seen == [False] * 3


def archive_of(folder, path):
    with tarfile.open(path, "w:gz") as tar:
        tar.add(folder, arcname="some/folder")
    return path


def test_an_archive_is_unpacked_once(saved_model, tmp_path):
    path, cache = archive_of(saved_model, tmp_path / "net.tgz"), tmp_path / "cache"
    extractor = load_extractor(str(path), pytest.fail, cache)
    assert extractor[1:] == (str(path), content_checksum(saved_model), 6, 4)
    [folder] = cache.iterdir()
    changed = folder.stat().st_mtime_ns
    assert load_extractor(str(path), pytest.fail, cache).sha256 == extractor.sha256
    assert folder.stat().st_mtime_ns == changed


@pytest.fixture
def url(server, saved_model, tmp_path):
    """Of a server that has `/net.tgz`."""
    put_archive(server, archive_of(saved_model, tmp_path / "net.tgz"))
    return server.url


def put_archive(server, archive):
    server.pages["/net.tgz"] = Page(archive.read_bytes())


def test_the_default_network_is_of_the_first_place_that_has_it(url, saved_model, tmp_path, monkeypatch):
    monkeypatch.setattr(inception, "KNOWN_PLACES", (f"{url}/gone.tgz", f"{url}/net.tgz"))
    told = []
    extractor = load_extractor("default", told.append, tmp_path / "cache")
    assert extractor[1:] == (f"{url}/net.tgz", content_checksum(saved_model), 6, 4)
    assert told == [f"Downloading {url}/net.tgz"]
    assert load_extractor("default", pytest.fail, tmp_path / "cache")[1:] == extractor[1:]


def test_a_url_is_downloaded_once(url, saved_model, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    told = []
    for _ in range(2):
        extractor = load_extractor(f"{url}/net.tgz", told.append)
        assert extractor[1:] == (f"{url}/net.tgz", content_checksum(saved_model), 6, 4)
    assert told == [f"Downloading {url}/net.tgz"]
    [folder] = (tmp_path / "home" / "p2p_keras" / "inception").iterdir()
    (folder / "some" / "folder" / "saved_model.pb").write_bytes(b"tampered")
    with pytest.raises(UserError, match=rf"A cached network must .*{folder} has changed.*Remove that folder"):
        load_extractor(f"{url}/net.tgz")


def test_without_a_connection_the_way_out_is_a_file(url, tmp_path, monkeypatch):
    monkeypatch.setattr(inception, "KNOWN_PLACES", (f"{url}/away.tgz", f"{url}/gone.tgz"))
    with pytest.raises(UserError) as raised:
        load_extractor("default", pytest.fail, tmp_path / "cache")
    assert str(raised.value) == (
        f"It is downloaded once, and that failed (addresses tried: 2): 404 Not Found ({url[7:]}). Try again with a "
        f"connection, or download {url}/away.tgz elsewhere and give it with --inception=FILE."
    )


def test_known_places_are_of_https_and_each_published_sum_is_of_one():
    assert all(place.startswith("https://") for place in inception.KNOWN_PLACES)
    assert inception.PINS.keys() <= set(inception.KNOWN_PLACES)
    assert all(re.fullmatch("[0-9a-f]{64}", pin.sha256) for pin in inception.PINS.values())
    # What can be compared with a published sum comes before what can only be believed the first time.
    assert set(inception.KNOWN_PLACES[: len(inception.PINS)]) == inception.PINS.keys()


def test_a_network_of_plain_http_is_refused(url, tmp_path):
    plain = url.replace("127.0.0.1", "0.0.0.0") + "/net.tgz"
    with pytest.raises(UserError) as raised:
        load_extractor(plain, pytest.fail, tmp_path / "cache")
    assert str(raised.value) == (
        "A network is fetched by https, for what comes by http anybody on the line can change; http is for this "
        f"machine itself (localhost, 127.0.0.1, [::1]). Received {plain}. Give an https URL, or download {plain} "
        "elsewhere and give it with --inception=FILE."
    )


@pytest.mark.parametrize("default", [True, False])
def test_another_network_at_the_same_place_is_refused(url, server, home, tmp_path, monkeypatch, default):
    monkeypatch.setattr(inception, "KNOWN_PLACES", (f"{url}/net.tgz",))
    source, cache = "default" if default else f"{url}/net.tgz", tmp_path / "cache"
    load_extractor(source, lambda line: None, cache)
    shutil.rmtree(cache)
    other = save_network(tmp_path / "other", {"serving_default": "features_only"})
    put_archive(server, archive_of(other, tmp_path / "net.tgz"))
    with pytest.raises(
        UserError, match=rf"A network must stay .*{url}/net.tgz has changed.* from {home}/p2p_keras/che"
    ):
        load_extractor(source, lambda line: None, cache)
    (home / "p2p_keras" / "checksums.json").unlink()
    assert load_extractor(source, lambda line: None, cache).classes is None


def test_nothing_but_the_published_graph_is_taken_from_its_archive(url, server, saved_model, tmp_path, monkeypatch):
    """Another network in the same archive would come before it."""
    [(place, pin)] = [(place, pin) for place, pin in inception.PINS.items() if pin.file]
    assert place.endswith("/inception-2015-12-05.tgz")
    folder = shutil.copytree(saved_model, tmp_path / "folder")
    write_graph(folder / pin.file, old_graph())
    with tarfile.open(tmp_path / "net.tgz", "w:gz") as tar:
        tar.add(folder, arcname=".")
    put_archive(server, tmp_path / "net.tgz")
    monkeypatch.setattr(inception, "KNOWN_PLACES", (f"{url}/net.tgz",))
    monkeypatch.setattr(inception, "PINS", {f"{url}/net.tgz": pin._replace(sha256=content_checksum(folder / pin.file))})
    extractor = load_extractor("default", lambda line: None, tmp_path / "cache")
    assert extractor.sha256 == content_checksum(folder / pin.file)
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setattr(inception, "PINS", {f"{url}/net.tgz": pin})
    with pytest.raises(UserError, match=f"but {pin.sha256[:12]} was published"):
        load_extractor("default", lambda line: None, tmp_path / "cache")


@pytest.mark.parametrize(("width", "label"), [(2048, ""), (768, "@768")])
def test_measures_are_labelled_with_an_uncustomary_width(width, label):
    assert Extractor(None, "here", "0", width, None).label == label


def test_the_saved_models_own_file_stands_for_its_folder(saved_model):
    assert load_extractor(str(saved_model / "saved_model.pb")).sha256 == content_checksum(saved_model)


@pytest.mark.parametrize(
    ("files", "received"),
    [
        (None, "there is no such file. Correct the path"),
        ({"readme.txt": b""}, "with neither. Name the folder or file"),
        ({"fingerprint.pb": b""}, "with neither. Name the folder or file"),
        ({"a.pb": b"", "b.pb": b""}, "with a.pb, b.pb. Name the folder or file"),
        ({"1/saved_model.pb": b"", "2/saved_model.pb": b""}, "with 1, 2. Name the folder or file"),
        ({"saved_model.pb": b"damaged"}, "does not: .*Fetch it again or name another network"),
        ({"graph.pb": b"damaged"}, "with 0 nodes \\(none\\). Name another network"),
    ],
)
def test_no_network_is_an_error(tmp_path, files, received):
    for name, content in (files or {}).items():
        (tmp_path / "net" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "net" / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"(Received )?{tmp_path}/net.*{received}"):
        load_extractor(str(tmp_path / "net"))


@pytest.mark.parametrize(
    ("method", "received"),
    [
        ("of_other_names", r"has the signatures and outputs {'serving_default': \['output_0'\]}. Name another"),
        ("of_the_batch", r"gives pool_3 \(1, 6\) for 2 images. Name another"),
        ("of_one", r"gives pool_3 \(1, 12\) for 2 images. Name another"),
        ("of_one_inside", r"does not: .*12 values.*shape has 6.*Name another"),
        ("of_another_size", r"does not: .*Name another"),
        ("not_finite", r"gives a pool_3 that is not finite.*Fetch it again or name another"),
    ],
)
def test_a_network_that_cannot_be_an_extractor_is_an_error(tmp_path, method, received):
    save_network(tmp_path, {"serving_default": method})
    with pytest.raises(UserError, match=f"{tmp_path}.*{received}"):
        load_extractor(str(tmp_path))


def test_a_call_without_pool_3_is_an_error(tmp_path):
    network = Network()
    network.__class__ = type("Callable", (Network,), {"__call__": Network.of_other_names})
    tf.saved_model.save(network, str(tmp_path))
    with pytest.raises(UserError, match=rf"needs an output pool_3. {tmp_path} gives \['output_0'\]. Name another"):
        load_extractor(str(tmp_path))


@pytest.mark.parametrize("missing", ["Mul", "pool_3"])
def test_a_graph_that_is_not_inception_is_an_error(tmp_path, missing):
    graph = old_graph()
    kept = [node for node in graph.node if node.name != missing]
    del graph.node[:]
    graph.node.extend(kept)
    path = write_graph(tmp_path / "graph.pb", graph)
    received = rf"Received {path} with {len(kept)} nodes \(DecodeJpeg/contents, DecodeJpeg, .*\)\. Name another"
    with pytest.raises(UserError, match=f"Mul .* and pool_3 .*{received}"):
        load_extractor(path)


def test_a_graph_that_does_not_hang_together_is_an_error(tmp_path):
    graph = old_graph()
    kept = [node for node in graph.node if node.name != "conv/Conv2D"]
    del graph.node[:]
    graph.node.extend(kept)
    with pytest.raises(UserError, match=r"graph.pb does not: .*conv/Conv2D.*Name another"):
        load_extractor(write_graph(tmp_path / "graph.pb", graph))
