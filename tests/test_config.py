import dataclasses
import json

import pytest

from p2p_keras.cli import train as train_command
from p2p_keras.config import (
    TrainConfig,
    best_metric,
    decay_steps,
    input_kinds,
    target_kind,
    task_name,
    total_steps,
)
from p2p_keras.declare import check_value, setting_type
from p2p_keras.errors import UserError
from p2p_keras.images.kinds import Kind
from p2p_keras.presets import PRESETS, make_config
from p2p_keras.rules import patch_size
from p2p_keras.sizes import Size
from p2p_keras.workdir.folder import check_resume, read_config, to_json


def test_defaults_are_the_best_ones_and_otherwise_the_papers():
    config = make_config(data_dir="x")
    assert config == make_config("best", data_dir="x")
    assert (config.batch_size, config.epochs, config.learning_rate, config.beta1) == (8, 200, 6e-4, 0.5)
    assert (config.lambda_l1, config.base_filters, config.discriminator) == (100, 64, "patch70")


def test_without_data_dir_the_defaults_are_the_demos_and_flags_override_them():
    assert make_config().image_size == (64, 64)
    assert make_config().base_filters == 32
    assert (make_config().upsampling, make_config().diffaugment) == ("resize", False)
    assert make_config("best").diffaugment
    assert make_config(image_size=128, batch_size=8).image_size == (128, 128)
    assert make_config().decay_epochs == make_config().epochs // 2
    assert make_config(epochs=3).decay_epochs == 1
    assert make_config(epochs=3, decay_epochs=0).decay_epochs == 0
    assert make_config(steps=3).decay_epochs == 0
    assert make_config("experiment3").decay_epochs == 0


def test_the_paper_and_the_best_differ_in_seven_settings():
    paper, best = (make_config(name, data_dir="x") for name in ("paper", "best"))
    assert paper == TrainConfig(data_dir="x")
    against = {"upsampling": "resize", "ema_decay": 0.999, "diffaugment": True}
    against |= {"jitter": False, "dropout": False, "batch_size": 8, "learning_rate": 6e-4}
    assert dataclasses.replace(paper, statistics="moving", **against) == best  # which follow from the batch
    assert make_config("best", data_dir="x", ema_decay=0.0).ema_decay == 0
    as_saved = dataclasses.replace(paper, batch_size=8, statistics="moving")  # the 1 raised to 8 devices
    assert make_config("paper", best, data_dir="x") == as_saved  # which a run that has begun then refuses by name
    assert make_config("best", paper, steps=7).steps == make_config("best", make_config(data_dir="x", steps=7)).steps
    assert make_config("best").decay_epochs == make_config().decay_epochs  # of the demo


@pytest.mark.parametrize("about_crops", [{"load_size": 300}, {"crops": "native"}])
def test_what_is_about_crops_has_them_made(about_crops):
    assert not make_config(data_dir="x").jitter
    assert make_config(data_dir="x", **about_crops).jitter
    saved = make_config("best", data_dir="x", **about_crops)
    assert saved.jitter
    assert make_config("best", saved, **about_crops) == make_config("best", saved) == saved
    for asked in ({"jitter": False}, {"preset": "crossview"}, {"data_dir": None}):
        with pytest.raises(UserError, match="for a new one add --jitter, or leave"):
            make_config(**{"data_dir": "x", **asked, **about_crops})


def test_the_demo_and_the_preset_for_different_views_have_the_same_settings_against_them():
    views, demo, best = make_config("crossview", data_dir="x"), make_config(), make_config(data_dir="x")
    against = ("diffaugment", "discriminator")
    for config in (views, demo):
        assert [getattr(config, name) for name in against] == [False, "patch16"]
        assert not config.jitter
        assert not config.dropout
    assert dataclasses.replace(views, **{name: getattr(best, name) for name in against}) == best
    paper = make_config("paper")  # of the demo's pairs: its size and length
    assert (paper.jitter, paper.dropout, paper.upsampling, paper.image_size) == (True, True, "transposed", (64, 64))


def test_presets_are_the_reports_experiments():
    found = {name: make_config(name, data_dir="x") for name in PRESETS if name.startswith("experiment")}
    assert {config.upsampling for config in found.values()} == {"transposed"}
    assert [config.batch_size for config in found.values()] == [128, 48, 24, 1]
    assert [config.direction for config in found.values()] == ["s2a", "a2s", "s2a", "s2a"]
    assert {config.learning_rate for config in found.values()} == {2e-3}
    assert found["experiment1"].epochs == 174
    assert make_config("experiment1", data_dir="x", batch_size=6, steps=5).steps == 5


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"direction": "up"}, "--direction"),
        ({"batch_size": 0}, "--batch_size"),
        ({"epochs": 0}, "--epochs"),
        ({"epochs": 1, "steps": 1}, "--epochs or --steps"),
        ({"image_size": 100}, "--image_size"),
        ({"learning_rate": 0.0}, "--learning_rate"),
        ({"learning_rate": float("nan")}, "--learning_rate"),
        ({"beta1": 1.0}, "--beta1"),
        ({"lambda_l1": -1.0}, "--lambda_l1"),
        ({"lambda_l1": float("nan")}, "--lambda_l1"),
        ({"decay_epochs": 300}, "--decay_epochs"),
        ({"seed": -1}, "--seed"),
        ({"panels": ("street",)}, "--panels"),
        ({"panels": ("street", "street")}, "--panels"),
        ({"discriminator": "patch286", "image_size": 64}, "patch286"),
        ({"precision": "float16"}, "--precision"),
    ],
)
def test_every_rule_is_named_with_its_flag(settings, word):
    with pytest.raises(UserError, match=word):
        make_config(data_dir="x", **settings)


def test_a_batch_size_that_nobody_gave_is_raised_to_what_the_devices_share():
    assert make_config(data_dir="x", devices=3).batch_size == 9
    assert make_config("paper", data_dir="x", devices=4).batch_size == 4
    assert make_config("paper", data_dir="x", devices=4).statistics == "moving"
    assert make_config("paper", data_dir="x", devices=4, statistics="per_image").statistics == "per_image"
    assert make_config(devices=5).batch_size == 10  # the demo's 8
    assert make_config("experiment1", data_dir="x", devices=3).batch_size == 129
    assert make_config("experiment1", data_dir="x", devices=4).batch_size == 128
    assert make_config(data_dir="x", devices=4, batch_size=6).batch_size == 6  # refused later, where it was given
    saved = make_config(data_dir="x", batch_size=3)
    assert make_config(saved=saved, devices=2) == saved


def test_the_same_command_with_a_preset_continues_a_run_on_another_number_of_devices():
    saved = make_config("experiment2", data_dir="x", devices=5)
    assert saved.batch_size == 50
    for devices in (1, 4, 5):
        assert make_config("experiment2", saved, devices, data_dir="x") == saved
    another = make_config("experiment1", data_dir="x")
    for preset, batch_size in (("experiment3", 25), ("experiment4", 5)):  # not the run's 128, which is refused later
        assert make_config(preset, another, 5, data_dir="x").batch_size == batch_size


def test_statistics_are_each_images_own_where_each_part_is_one_image():
    assert TrainConfig(batch_size=4, accumulate=4).statistics == "per_image"
    assert TrainConfig(batch_size=4, accumulate=2).statistics == "moving"


def test_unknown_preset_lists_the_known():
    with pytest.raises(UserError, match="experiment1, experiment2"):
        make_config("experiment9")


def test_json_round_trip_keeps_every_field(tmp_path):
    config = make_config(
        "experiment2", data_dir="/d", panels=("street", "aerial"), samples=("a",), decay_epochs=3, seed=7
    )
    (tmp_path / "config.json").write_text(to_json(config, data={"fingerprint": "f"}))
    read, record = read_config(tmp_path / "config.json")
    assert read == config
    assert record["data"] == {"fingerprint": "f"}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"config": {"colour": 1}}'])
def test_a_config_that_is_none_is_refused_in_words(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match="p2p-train"):
        read_config(tmp_path / "config.json")


def test_a_saved_run_gives_what_the_flags_do_not():
    saved = make_config(data_dir="/d", batch_size=4, epochs=10, seed=3)
    assert make_config(saved=saved) == saved
    longer = make_config(saved=saved, epochs=20)
    assert (longer.epochs, longer.batch_size, longer.seed) == (20, 4, 3)
    assert make_config(saved=saved, steps=7).epochs is None


def test_statistics_follow_the_batch_size():
    assert TrainConfig(batch_size=1).statistics == "per_image"
    assert TrainConfig(batch_size=2).statistics == "moving"


def test_length_and_decay_in_steps():
    config = TrainConfig(epochs=10, decay_epochs=4)
    assert (total_steps(config, 25), decay_steps(config, 25)) == (250, 100)
    assert total_steps(TrainConfig(epochs=None, steps=7), 25) == 7


def test_resume_names_every_changed_setting():
    saved = TrainConfig(batch_size=2, seed=1)
    check_resume(saved, dataclasses.replace(saved, keep_checkpoints=9, data_dir="elsewhere"), 100, 10)
    with pytest.raises(UserError, match=r"--batch_size was 2, is 4.*--seed was 1, is 2"):
        check_resume(saved, dataclasses.replace(saved, batch_size=4, seed=2), 100, 10)


def test_length_may_change_unless_the_decay_already_began_differently():
    saved = TrainConfig(epochs=10)
    check_resume(saved, dataclasses.replace(saved, epochs=20), 100, 10)
    decaying = TrainConfig(epochs=10, decay_epochs=5)  # falls from step 50 on
    check_resume(decaying, dataclasses.replace(decaying, epochs=20), 50, 10)
    with pytest.raises(UserError, match="--epochs was 10, is 20"):
        check_resume(decaying, dataclasses.replace(decaying, epochs=20), 60, 10)


@pytest.mark.parametrize(
    ("kind", "size", "expected"),
    [("patch70", 256, 30), ("patch16", 256, 126), ("pixel", 256, 256), ("patch286", 256, 6), ("compact", 256, 32)],
)
def test_patch_size(kind, size, expected):
    assert patch_size(kind, size) == expected


def test_config_json_uses_the_flags_words():
    record = json.loads(to_json(TrainConfig()))
    assert {"data_dir", "direction", "panels", "batch_size", "lambda_l1", "seed"} <= set(record["config"])


def test_the_best_is_judged_by_l1_until_there_is_an_extractor():
    assert best_metric(make_config(data_dir="x", eval_every_epochs=1)) == "l1"
    assert best_metric(make_config(data_dir="x", eval_every_epochs=1, inception="default")) == "kid"
    assert best_metric(make_config(data_dir="x", eval_every_epochs=1, inception="x", best_metric="ssim")) == "ssim"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"eval_every_epochs": 1, "best_metric": "kid"}, "--best_metric=kid needs the Inception network"),
        ({"patience": 3}, "--patience is about evaluations while training"),
        ({"inception": "default"}, "--inception is about evaluations while training"),
        ({"eval_every_epochs": 5, "epochs": 4}, "must not exceed the --epochs, 4. Received: 5"),
        ({"eval_every_epochs": 1, "best_metric": "loss"}, "--best_metric must be one of l1, psnr"),
        ({"eval_every_epochs": -1}, "--eval_every_epochs must be at least 0. Received: -1"),
    ],
)
def test_settings_of_evaluations_that_make_no_sense_are_errors(settings, words):
    with pytest.raises(UserError, match=words):
        make_config(data_dir="x", **settings)


def test_label_maps_have_metrics_of_their_own():
    common = {"data_dir": "x", "eval_every_epochs": 1}
    assert best_metric(make_config(**common, output_labels=5)) == "l1"
    assert best_metric(make_config(**common, output_labels=5, best_metric="mean_iou")) == "mean_iou"
    assert best_metric(make_config(**common, labels=5, best_metric="psnr")) == "psnr"  # the target is an image
    with pytest.raises(UserError, match=r"of label maps is one of l1, pixel_accuracy, mean_iou. Received: ssim"):
        make_config(**common, output_labels=5, best_metric="ssim")
    with pytest.raises(UserError, match=r"of label maps is one of .* Received: kid"):
        make_config(**common, output_labels=5, best_metric="kid")
    with pytest.raises(UserError, match=r"of images is one of l1, psnr, .* Received: mean_iou"):
        make_config(**common, best_metric="mean_iou")
    with pytest.raises(UserError, match="--inception is a network for images"):
        make_config(**common, output_labels=5, inception="default")


def test_channels_are_those_of_a_file_or_the_classes_of_a_label_map():
    settled = make_config(data_dir="x", labels=12, input_channels=12)  # as a run writes it down
    assert input_kinds(settled) == (Kind(12, labels=True),)
    assert target_kind(make_config(data_dir="x", output_channels=1, output_bits=16)) == Kind(1, bits=16)
    for settings, words in (
        ({"input_channels": 12}, "--input_channels are what a JPEG or PNG file holds, 1 to 4. Received: 12"),
        ({"output_channels": 0}, "--output_channels are what a JPEG or PNG file holds"),
        ({"labels": 12, "input_channels": 3}, "leave --input_channels out with --labels. Received: 3 and 12"),
        ({"labels": 257}, "--labels is the number of classes, 2 to 256. Received: 257"),
        ({"output_labels": 1}, "--output_labels is the number of classes, 2 to 256. Received: 1"),
    ):
        with pytest.raises(UserError, match=words):
            make_config(data_dir="x", **settings)


@pytest.mark.parametrize("given", ["256x512", (256, 512), [256, 512]])
def test_sizes_are_height_and_width(given):
    config = make_config(data_dir="x", image_size=given)
    assert config.image_size == (256, 512)
    assert json.loads(to_json(config))["config"]["image_size"] == [256, 512]
    assert json.loads(to_json(make_config(data_dir="x", image_size="64")))["config"]["image_size"] == 64


def test_several_inputs_have_a_number_each():
    named = {"data_dir": "x", "input_panels": ("aerial", "classes"), "target_panel": "street"}
    config = make_config(**named, labels=["0", "12"], input_bits=(16, 8))
    assert input_kinds(config) == (Kind(3, 16), Kind(12, labels=True))
    assert task_name(config) == "aerial+classes_to_street"
    assert input_kinds(make_config(**named)) == (Kind(), Kind())
    assert make_config(**named, labels=(0, 0)).labels == make_config(data_dir="x", labels=0).labels == ()


def test_settings_come_back_from_json_as_they_were(tmp_path):
    config = make_config(
        data_dir="x",
        panels=("a", "b", "c"),
        input_panels=("c", "a"),
        target_panel="b",
        labels=(0, 7),
        input_channels=(3, 7),
        image_size="64x128",
        load_size=(70, 140),
    )
    (tmp_path / "config.json").write_text(to_json(config))
    assert read_config(tmp_path / "config.json")[0] == config


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"image_size": "48"}, "--image_size must be multiples of 32.*Received: 48x48"),
        ({"image_size": "64x4096"}, "--image_size must be multiples of 32, up to 2048.*Received: 64x4096"),
        ({"image_size": "big"}, "--image_size is one number, or height and width as 256x512. Received: big"),
        ({"image_size": 64, "load_size": "60x70"}, "--load_size must be at least --image_size=64x64.*Received: 60x70"),
        ({"image_size": 64, "load_size": 70, "crops": "native"}, "--crops=native does not resize"),
        (
            {"jitter": False, "crops": "native"},
            "--crops=native is of what is cropped at random.* add --jitter",
        ),
        ({"image_size": 64, "jitter": False, "load_size": 70}, "--load_size is of what is cropped at random"),
        ({"input_panels": ("a",)}, "--input_panels and --target_panel go together"),
        ({"target_panel": "a"}, "--input_panels and --target_panel go together"),
        ({"input_panels": ("a", "a"), "target_panel": "b"}, "Each panel is an input, or the target, once"),
        ({"input_panels": ("a", "b"), "target_panel": "b"}, "Each panel is an input, or the target, once"),
        ({"input_panels": ("a b",), "target_panel": "c"}, "become names of an export's inputs.*Received: a b"),
        ({"input_panels": ("seed",), "target_panel": "c"}, "and not seed"),
        ({"input_panels": ("class",), "target_panel": "c"}, "nor a word of Python.*Received: class"),
        ({"input_panels": ("self",), "target_panel": "c"}, "nor a word of Python.*Received: self"),
        ({"input_panels": ("a", "A"), "target_panel": "c"}, "differ in more than capitals. Received: a,A"),
        ({"input_panels": ("a", "b"), "target_panel": "c", "labels": 7}, "a number for each of the 2 --input_panels"),
        ({"labels": (7, 7)}, "--labels has a number for each of the one input image. Received: 7,7"),
        ({"labels": "many"}, "--labels is a number, or several with commas between. Received: many"),
        ({"input_bits": 12}, "--input_bits must be one of 8, 16. Received: 12"),
        ({"input_panels": ("a",), "target_panel": "b", "direction": "a2s"}, "Give --direction, or --input_panels"),
    ],
)
def test_bad_sizes_and_panels_are_refused_in_words(settings, words):
    with pytest.raises(UserError, match=words):
        make_config(**{"data_dir": "x", **settings})


def test_a_saved_run_can_be_given_an_extractor_later():
    saved = make_config(data_dir="x", eval_every_epochs=1)
    later = make_config(saved=saved, inception="default")
    check_resume(saved, later, done_steps=5, steps_per_epoch=2)  # which raises nothing
    assert (later.inception, later.eval_every_epochs) == ("default", 1)


def test_every_setting_has_a_flag_and_every_flag_but_three_a_setting():
    settings = {field.name for field in dataclasses.fields(TrainConfig)}
    assert set(train_command.FLAGS) - {"help", "h", "version"} == settings | {"workdir", "preset", "estimate_memory"}


@pytest.mark.parametrize("field", dataclasses.fields(TrainConfig), ids=lambda field: field.name)
def test_every_setting_is_declared_whole_and_its_range_is_kept(field):
    """The rules of a setting's line are those that are applied, at both ends."""
    rule = field.metadata
    assert rule["help"].endswith(".")
    assert setting_type(TrainConfig, field) in (str, bool, int, float, tuple, Size)
    if field.default in (None, "", ()):
        assert rule["meaning"], "a default that is filled in later says what by"
    kind, bad = setting_type(TrainConfig, field), []
    bad += [kind(rule["at_least"] - 1)] if rule["at_least"] is not None else []
    bad += [kind(rule["above"])] if rule["above"] is not None else []
    bad += [kind(rule["below"])] if rule["below"] is not None else []
    bad += ["none of them" if kind is str else 7] if rule["choices"] else []
    for value in bad:
        with pytest.raises(UserError, match=rf"--{field.name} must be .* Received: {value}"):
            TrainConfig(**{field.name: value, **({"steps": None} if field.name == "epochs" else {})})


def test_limits_are_part_of_the_range_or_not_as_declared():
    assert check_value("x", 0, at_least=0, below=1) == 0
    assert check_value("x", 0.5, above=0, below=1) == 0.5
    for value in (1, -0.1, float("nan")):
        with pytest.raises(UserError, match=r"--x must be at least 0 and below 1\. Received"):
            check_value("x", value, at_least=0, below=1)


def test_an_empty_flag_takes_back_what_a_saved_run_has():
    saved = make_config(data_dir="x", eval_every_epochs=1, inception="default", best_metric="kid")
    later = make_config(saved=saved, inception="", best_metric="l1")
    assert later.inception is None
    assert make_config(saved=saved, inception="", eval_every_epochs=0).eval_every_epochs == 0  # judged by nothing now


def test_a_network_that_only_config_json_names_is_not_run():
    """A run may be a stranger's, and a network is a program: it would be fetched and run by continuing."""
    saved = make_config(data_dir="x", eval_every_epochs=1, inception="https://example.org/net.tgz")
    with pytest.raises(UserError, match=r"--inception=https://example\.org/net\.tgz.*--inception= "):
        make_config(saved=saved)
    assert make_config(saved=saved, inception=saved.inception) == saved
    assert make_config(saved=saved, inception="").inception is None
    known = make_config(data_dir="x", eval_every_epochs=1, inception="default")
    assert make_config(saved=known) == known


def test_a_config_of_networks_that_no_machine_holds_is_refused():
    with pytest.raises(UserError, match="--base_filters must be at least 1 and below 1025"):
        TrainConfig(base_filters=10**6)
