"""The network against the paper's numbers: layers, sizes, parameters, operations."""

import numpy as np
import pytest

from model.complexity import measure
from model.config import NetworkConfig, Normalisation, Task
from model.network import build_network, split_network


@pytest.fixture(scope="module")
def full_width():
    return build_network(NetworkConfig())


def _part(network, prefix, suffix=""):
    return measure(network, lambda name: name.startswith(prefix) and name.endswith(suffix))


def test_full_width_outputs(full_width):
    assert full_width.input_shape == (None, 256, 256, 1)
    for name in ("reconstruction", "segmentation"):
        assert full_width.get_layer(name).output.shape == (None, 256, 256, 1)
    assert full_width.get_layer("classification").output.shape == (None, 1)


def test_encoder_ends_in_1024_maps_of_a_sixteenth(full_width):
    assert full_width.get_layer("encoder_5_conv_2_relu").output.shape == (None, 16, 16, 1024)


@pytest.mark.parametrize(
    ("prefix", "convolutions", "parameters", "gflop"),
    [
        ("encoder", 10, 18_842_048, 33.9),
        ("segmentation", 14, 12_189_637, 75.3),
        ("reconstruction", 14, 12_189_637, 75.3),
        ("classification", 1, 2_236_801, 0.6),
        ("", 39, 45_458_123, 185.1),
    ],
)
def test_full_width_counts(full_width, prefix, convolutions, parameters, gflop):
    part = _part(full_width, prefix)
    assert part.convolutions == convolutions
    assert part.parameters == parameters
    assert part.flops / 1e9 == pytest.approx(gflop, abs=0.05)


def test_up_convolutions_take_a_quarter_of_a_decoder(full_width):
    part = _part(full_width, "segmentation", "upconv")
    assert part.convolutions == 4
    assert part.flops / 1e9 == pytest.approx(17.2, abs=0.05)


def test_reconstruction_is_not_run_at_inference():
    network = build_network(NetworkConfig(tasks=(Task.SEGMENTATION, Task.CLASSIFICATION)))
    assert not [layer.name for layer in network.layers if layer.name.startswith("reconstruction")]
    assert _part(network, "").flops / 1e9 == pytest.approx(109.8, abs=0.05)


def test_512_input_gives_the_papers_32_by_32():
    network = build_network(NetworkConfig(input_size=512, base_filters=2))
    assert network.get_layer("encoder_5_conv_2_relu").output.shape == (None, 32, 32, 32)


def test_paper_has_no_normalisation_and_the_option_adds_it_to_every_activation():
    plain = build_network(NetworkConfig(input_size=32, base_filters=2))
    normalised = build_network(
        NetworkConfig(input_size=32, base_filters=2, normalisation=Normalisation.BATCH)
    )
    names = [layer.name for layer in normalised.layers if layer.name.endswith("_norm")]
    assert not [layer.name for layer in plain.layers if layer.name.endswith("_norm")]
    assert len(names) == sum(layer.name.endswith("_relu") for layer in normalised.layers)


def test_branches_are_the_network():
    config = NetworkConfig(input_size=32, base_filters=2)
    network = build_network(config)
    images = np.random.default_rng(0).random((2, 32, 32, 1), np.float32)
    whole = network(images)
    branches = split_network(network, config)
    levels = branches.encoder(images)
    for task, head in branches.heads.items():
        np.testing.assert_allclose(head(levels), whole[task.value], atol=1e-6)
