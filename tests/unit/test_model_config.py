"""Settings of network and training: round trip and refusal."""

import pytest

from model.config import (
    AugmentationConfig,
    NetworkConfig,
    Normalisation,
    Precision,
    Schedule,
    Task,
    TrainingConfig,
)
from model.errors import ConfigError


def test_defaults_are_the_papers():
    config = TrainingConfig()
    assert (config.network.input_size, config.network.base_filters) == (256, 64)
    assert config.network.tasks == (Task.RECONSTRUCTION, Task.SEGMENTATION, Task.CLASSIFICATION)
    assert config.network.normalisation is Normalisation.NONE
    assert config.network.classifier_units == (128, 64)
    assert config.network.dropout == 0.5
    assert (config.batch_size, config.learning_rate) == (4, 1e-4)
    assert (config.epochs, config.patience) == (500, 35)
    assert config.precision is Precision.FLOAT32
    assert config.label_smoothing == config.weight_decay == config.gradient_clip == 0


def test_json_round_trip_keeps_every_setting():
    config = TrainingConfig(
        network=NetworkConfig(input_size=64, base_filters=4, tasks=(Task.CLASSIFICATION,)),
        augmentation=AugmentationConfig(noise=0.5),
        schedule=Schedule.COSINE,
        empty_mask_sources=("luna-noncovid",),
        source_shares=(("covid-ct/covid", 0.5), ("covid-ct/non-covid", 0.5)),
    )
    assert TrainingConfig.from_json(config.to_json()) == config


def test_order_of_tasks_does_not_make_another_network():
    forward = NetworkConfig(tasks=(Task.SEGMENTATION, Task.CLASSIFICATION))
    assert forward == NetworkConfig(tasks=(Task.CLASSIFICATION, Task.SEGMENTATION))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[]", "JSON object"),
        ('{"learning_rat": 1}', "no setting learning_rat"),
        ('{"network": {"input_size": 100}}', "multiple of 32"),
        ('{"network": {"tasks": []}}', "at least one task"),
        ('{"network": {"tasks": ["detection"]}}', "detection"),
        ('{"network": {"normalisation": "group"}}', "group"),
        ('{"learning_rate": 0}', "learning_rate"),
        ('{"precision": "float8"}', "float8"),
        ('{"label_smoothing": 1}', "label_smoothing"),
        ('{"weight_decay": -1}', "weight_decay"),
        ('{"gradient_clip": -1}', "gradient_clip"),
        ('{"checkpoint_steps": -1}', "checkpoint_steps"),
        ('{"batch_size": 0}', "batch_size"),
        ('{"batch_size": "four"}', "TrainingConfig: batch_size must be a whole number, not 'four'"),
        ('{"epochs": 2.5}', "epochs must be a whole number, not 2.5"),
        ('{"epochs": true}', "epochs must be a whole number, not True"),
        ('{"learning_rate": null}', "learning_rate must be a number, not None"),
        ('{"network": 3}', "network must be an object of settings, not 3"),
        (
            '{"network": {"classifier_units": [8, "x"]}}',
            "classifier_units must be a list, each a w",
        ),
        (
            '{"source_shares": [["a"]]}',
            "source_shares must be a list, each a list of a text and a n",
        ),
        ('{"schedule": 1}', "schedule must be one of constant, cosine, not 1"),
        ('{"augmentation": {"noise": -1}}', "noise"),
        ('{"source_shares": [["a", -1]]}', "source_shares"),
    ],
)
def test_wrong_settings_are_named(text, says):
    with pytest.raises(ConfigError, match=says):
        TrainingConfig.from_json(text)


def test_a_whole_number_is_a_number_too():
    assert TrainingConfig.from_json('{"dice_smoothing": 2}').dice_smoothing == 2


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xfe{", "no text in UTF-8"),
        (b"epochs: 3", "not JSON"),
        (b'{"epochs": "x"}', "epochs must be a whole number"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_file_that_holds_no_settings_is_named(tmp_path, content, says):
    path = tmp_path / "mine.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"mine\.json: .*{says}"):
        TrainingConfig.from_file(path)
