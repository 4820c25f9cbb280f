"""Weights files: data only, whole, and of the right network."""

import numpy as np
import pytest

from model.config import NetworkConfig, Normalisation, Task
from model.errors import RegistryError
from model.network import build_network
from model.weights_file import (
    load_weights,
    resample_flattened_kernel,
    round_weights,
    save_weights,
)

CONFIG = NetworkConfig(input_size=32, base_filters=2, normalisation=Normalisation.BATCH)
SMALL = {"classifier_filters": 4, "classifier_units": (8,)}


@pytest.fixture
def images():
    return np.random.default_rng(0).random((2, 32, 32, 1), np.float32)


def test_round_trip_gives_the_same_outputs(tmp_path, images):
    first, second = build_network(CONFIG), build_network(CONFIG)
    save_weights(first, tmp_path / "w.npz")
    load_weights(second, tmp_path / "w.npz")
    for name, output in first(images).items():
        np.testing.assert_array_equal(output, second(images)[name])


def test_a_network_with_fewer_tasks_takes_what_it_needs(tmp_path, images):
    whole = build_network(CONFIG)
    save_weights(whole, tmp_path / "w.npz")
    tasks = (Task.SEGMENTATION, Task.CLASSIFICATION)
    part = build_network(
        NetworkConfig(input_size=32, base_filters=2, normalisation="batch", tasks=tasks)
    )
    load_weights(part, tmp_path / "w.npz")
    for name, output in part(images).items():
        np.testing.assert_allclose(output, whole(images)[name], atol=1e-6)


def test_missing_and_misfitting_weights_are_named(tmp_path):
    part = build_network(NetworkConfig(input_size=32, base_filters=2, tasks=(Task.CLASSIFICATION,)))
    save_weights(part, tmp_path / "w.npz")
    with pytest.raises(RegistryError, match="no weights for"):
        load_weights(
            build_network(NetworkConfig(input_size=32, base_filters=2)), tmp_path / "w.npz"
        )
    wider = NetworkConfig(input_size=32, base_filters=3, tasks=(Task.CLASSIFICATION,))
    with pytest.raises(RegistryError, match="the network needs"):
        load_weights(build_network(wider), tmp_path / "w.npz")


def test_a_pickle_is_no_weights_file(tmp_path):
    np.save(tmp_path / "w.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "w.npy").rename(tmp_path / "w.npz")
    network = build_network(NetworkConfig(input_size=32, base_filters=2))
    with pytest.raises(RegistryError, match="not a weights file"):
        load_weights(network, tmp_path / "w.npz")


@pytest.mark.parametrize("content", [b"", b"step,loss\n", b"PK\x03\x04 cut off", b"\x93NUMPY"])
def test_another_file_is_refused_without_advice_to_read_it_unsafely(tmp_path, content):
    (tmp_path / "w.npz").write_bytes(content)
    with pytest.raises(RegistryError, match=r"not a weights file.*take best\.npz") as raised:
        round_weights(tmp_path / "w.npz", tmp_path / "to.npz")
    assert "pickle" not in str(raised.value)
    with pytest.raises(RegistryError, match="cannot be read: No such file"):
        round_weights(tmp_path / "absent.npz", tmp_path / "to.npz")


def test_weights_go_on_at_another_input_size(tmp_path):
    small = build_network(NetworkConfig(input_size=32, base_filters=2, **SMALL))
    large = build_network(NetworkConfig(input_size=64, base_filters=2, **SMALL))
    save_weights(small, tmp_path / "w.npz")
    load_weights(large, tmp_path / "w.npz")
    differing = 0
    for first, second in zip(small.weights, large.weights, strict=True):
        if first.shape == second.shape:
            np.testing.assert_array_equal(first, second)
        else:
            differing += 1
    assert differing == 1, "only the kernel after flattening hangs on the input size"


def test_of_several_files_the_last_one_counts(tmp_path, images):
    tasks = (Task.SEGMENTATION, Task.CLASSIFICATION)
    whole = build_network(NetworkConfig(input_size=32, base_filters=2))
    part = build_network(NetworkConfig(input_size=32, base_filters=2, tasks=tasks))
    save_weights(whole, tmp_path / "whole.npz")
    save_weights(part, tmp_path / "part.npz")
    both = build_network(NetworkConfig(input_size=32, base_filters=2))
    load_weights(both, tmp_path / "whole.npz", tmp_path / "part.npz")
    outputs = both(images)
    for name, output in part(images).items():
        np.testing.assert_allclose(outputs[name], output, atol=1e-6)


def test_a_resampled_kernel_says_the_same_of_a_resized_map():
    generator = np.random.default_rng(0)
    kernel = generator.random((4 * 4 * 3, 5), np.float32)
    maps = generator.random((4, 4, 3), np.float32)
    resized = maps.repeat(2, axis=0).repeat(2, axis=1)
    grown = resample_flattened_kernel(kernel, 8 * 8 * 3, maps=3)
    np.testing.assert_allclose(resized.reshape(-1) @ grown, maps.reshape(-1) @ kernel, rtol=1e-5)


def test_a_kernel_cannot_be_resampled_to_a_fraction():
    with pytest.raises(RegistryError, match="cannot be resampled"):
        resample_flattened_kernel(np.zeros((2 * 2 * 3, 5), np.float32), 3 * 3 * 3, maps=3)
