"""Steps in other arithmetic, on several devices, with decay and clipping; and killed runs."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from model.architectures import build
from model.config import (
    AugmentationConfig,
    NetworkConfig,
    Normalisation,
    Precision,
    TrainingConfig,
)
from model.data.dataset import Sample, Split
from model.errors import TrainingError
from model.training.checkpoint import load_checkpoint, save_checkpoint
from model.training.curves import write_events
from model.training.optimizer import build_optimizer
from model.training.pipeline import training_batches
from model.training.progress import describe_seconds
from model.training.step import TrainingStep
from model.training.trainer import Trainer
from model.weights_file import load_weights, save_weights

ROOT = Path(__file__).parents[2]
CONFIG = TrainingConfig(
    network=NetworkConfig(
        input_size=32,
        base_filters=4,
        normalisation=Normalisation.BATCH,
        classifier_filters=4,
        classifier_units=(8, 4),
        dropout=0.0,
    ),
    steps_per_epoch=3,
    gradient_clip=0.5,
)


def _samples():
    generator = np.random.default_rng(0)
    samples = []
    for number in range(12):
        image = generator.random((32, 32), np.float32)
        mask = image > 0.5 if number % 3 == 0 else None
        covid = None if number == 5 else number % 2 == 0
        samples.append(Sample(f"{number}", "drawn", Split.TRAIN, f"{number}", covid, image, mask))
    return samples


def _losses(config, steps=3):
    step = TrainingStep(config, 3)
    batches = training_batches(_samples(), config, 0)
    return step, [step(batch, 1.0) for batch in batches][:steps]


@pytest.fixture(scope="module")
def plain():
    return _losses(CONFIG)


@pytest.mark.parametrize("precision", [Precision.MIXED_BFLOAT16, Precision.MIXED_FLOAT16])
def test_mixed_precision_learns_alike_and_gives_float32_weights(plain, precision, tmp_path):
    step, mixed = _losses(replace(CONFIG, precision=precision))
    assert step.network.get_layer("encoder_1_conv_1").compute_dtype == precision.value[6:]
    for ours, theirs in zip(plain[1], mixed, strict=True):
        assert theirs == pytest.approx(ours, rel=0.05, abs=0.02)
        assert theirs != ours
    assert {weight.dtype for weight in step.network.weights} == {"float32"}
    save_weights(step.network, tmp_path / "weights.npz")
    network = build(CONFIG.network)
    load_weights(network, tmp_path / "weights.npz")
    assert network.dtype_policy.name == "float32"
    image = _samples()[0].image[None, ..., None]
    exact = network(image)
    for name, output in step.averaged(image).items():
        np.testing.assert_array_equal(output, exact[name])
    assert keras.mixed_precision.dtype_policy().name == "float32"


def test_two_devices_share_a_batch_and_step_as_one(plain, tmp_path):
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import json, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import test_training_steps as tests
import model.training.step as module
strategy = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
module.choose_strategy = lambda: strategy
step, losses = tests._losses(tests.CONFIG)
assert step.replicas == 2
tests.save_checkpoint(tests.Path({str(tmp_path)!r}), step.variables, {{}})
assert tests.load_checkpoint(tests.Path({str(tmp_path)!r}), step.variables) is not None
print(json.dumps(losses))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    shared = json.loads(done.stdout.splitlines()[-1])
    for ours, theirs in zip(plain[1], shared, strict=True):
        assert theirs == pytest.approx(ours, rel=1e-3, abs=1e-5)


def test_weight_decay_spares_biases_and_normalisation():
    network = build(CONFIG.network)
    for weight in network.trainable_variables:
        weight.assign(np.ones(weight.shape))
    variables = network.trainable_variables
    config = replace(CONFIG, weight_decay=0.5, learning_rate=0.1)
    build_optimizer(config, 1, variables).apply([np.zeros(each.shape) for each in variables])
    for weight in variables:
        expected = 0.95 if weight.name == "kernel" else 1.0
        np.testing.assert_allclose(weight, expected, rtol=1e-6, err_msg=weight.path)


def test_clipping_limits_the_gradients_together():
    variables = [keras.Variable(np.zeros(3)), keras.Variable(np.zeros(4))]
    optimizer = build_optimizer(replace(CONFIG, gradient_clip=2.0), 1, variables)
    optimizer.apply([np.full(3, 100.0), np.full(4, 100.0)])
    moments = [np.asarray(each) for each in optimizer.variables if "momentum" in each.path]
    # Adam's first moment is a tenth of the gradient after one step.
    assert np.linalg.norm(np.concatenate(moments)) == pytest.approx(0.2, rel=1e-4)


def test_an_epoch_goes_on_in_its_middle_with_the_same_images():
    config = replace(CONFIG, augmentation=AugmentationConfig())
    whole = [list(map(np.asarray, batch)) for batch in training_batches(_samples(), config, 2)]
    rest = [list(map(np.asarray, batch)) for batch in training_batches(_samples(), config, 2, 1)]
    assert len(rest) == 2
    for ours, theirs in zip(whole[1:], rest, strict=True):
        for part, same in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(part, same)


def test_weights_that_are_no_numbers_never_become_a_checkpoint(tmp_path):
    save_checkpoint(tmp_path, [np.ones(3)], {"step": 1})
    with pytest.raises(TrainingError, match="no numbers"):
        save_checkpoint(tmp_path, [np.array([1.0, np.nan, 1.0])], {"step": 2})
    variable = keras.Variable(np.zeros(3))
    assert load_checkpoint(tmp_path, [variable]).state == {"step": 1}
    np.testing.assert_array_equal(variable, np.ones(3))


@pytest.mark.parametrize("averaged", [True, False])
def test_weights_that_are_no_numbers_get_no_name(tmp_path, monkeypatch, averaged):
    """They become so in the last step of an epoch, after its loss was measured."""
    learned = [replace(each, source="a") for each in _samples()]
    held_out = [replace(each, split=Split.VALIDATION) for each in learned]
    trainer = Trainer(CONFIG, [*learned, *held_out], tmp_path)
    network = trainer.network if averaged else trainer.training_step.network
    train_epoch = trainer._train_epoch

    def spoil(*given):
        losses = train_epoch(*given)
        for variable in network.trainable_variables:
            variable.assign(np.full(variable.shape, np.nan, np.float32))
        return losses

    monkeypatch.setattr(trainer, "_train_epoch", spoil)
    told = r"after epoch 1: the .* of 0 is not a number; the last" if averaged else "no numbers"
    with pytest.raises(TrainingError, match=told):
        trainer.run()
    assert not list(tmp_path.glob("*.npz"))


def test_a_crash_between_the_renames_leaves_the_one_before(tmp_path):
    for step in (1, 2):
        save_checkpoint(tmp_path, [np.full(3, step)], {"step": step})
    (tmp_path / "current.npz").unlink()
    variable = keras.Variable(np.zeros(3))
    assert load_checkpoint(tmp_path, [variable]) == ({"step": 1}, "")


@contextmanager
def small_disk(folder, size):
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only a superuser can mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_the_checkpoint_that_was_there(tmp_path):
    with small_disk(tmp_path / "disk", "256k") as disk:
        save_checkpoint(disk / "last", [np.ones(1000)], {"step": 1})
        with pytest.raises(TrainingError, match=r"No space left on device.*still valid"):
            save_checkpoint(disk / "last", [np.ones(100_000)], {"step": 2})
        assert [file.name for file in (disk / "last").iterdir()] == ["current.npz"]
        assert load_checkpoint(disk / "last", [keras.Variable(np.zeros(1000))]).state["step"] == 1


def test_a_full_disk_under_the_event_files_is_an_error_of_the_disk(tmp_path):
    with small_disk(tmp_path / "disk", "4k") as disk:
        (disk / "full").write_bytes(bytes(4096))
        with pytest.raises(OSError, match="cannot be written"):
            write_events({"epoch": 1, "auc": 0.5}, disk / "tensorboard")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(40, "40 s"), (600, "10 min"), (7500, "2 h 05 min"), (90000, "25 h 00 min")],
)
def test_times_are_told_as_people_say_them(seconds, text):
    assert describe_seconds(seconds) == text


def test_runs_killed_at_random_moments_end_bit_equal():
    done = subprocess.run(
        [sys.executable, "bench/training_resume.py", "--kills", "3", "--seed", "7"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout
    result = json.loads(done.stdout)
    assert result["bit_equal"] == result["trials"] == 3
    assert result["killed_before_the_end"] > 0
