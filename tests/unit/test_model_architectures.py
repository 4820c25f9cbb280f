"""Every kind of network builds from its config alone, and its weights go to file and back."""

from dataclasses import replace

import numpy as np
import pytest

from model.architectures import branches, build
from model.baselines.capsule import squash
from model.baselines.svm import SupportVectorMachine, fit_machine
from model.baselines.transfer import FEATURES
from model.config import Architecture, NetworkConfig, Task, TrainingConfig, possible_tasks
from model.errors import ConfigError, DatasetError, RegistryError
from model.evaluation.metrics import roc_auc
from model.weights_file import load_weights, save_weights

# Those of a published size take seconds to build: the largest ones are tried by their benchmark.
SMALL = (
    Architecture.MULTITASK,
    Architecture.CNN8,
    Architecture.FOUR_CLASS_CNN,
    Architecture.CAPSULE,
    Architecture.UNET_PLUS_PLUS,
    Architecture.UNET_PLUS_PLUS_3D,
    Architecture.VGG16,
    Architecture.TWO_STAGE,
)


def _config(architecture, **values):
    return NetworkConfig(
        input_size=32,
        base_filters=2,
        tasks=possible_tasks(architecture),
        architecture=architecture,
        normalisation="batch",
        **values,
    )


def _images(network, generator, count=2):
    return generator.random((count, *network.inputs[0].shape[1:])).astype(np.float32)


@pytest.fixture(scope="module")
def vgg16():
    return build(_config(Architecture.VGG16))


@pytest.fixture(scope="module", params=SMALL)
def built(request):
    config = _config(request.param)
    return config, build(config)


def test_gives_each_of_its_tasks_a_probability(built):
    config, network = built
    images = _images(network, np.random.default_rng(0))
    outputs = network(images)
    assert set(outputs) == set(config.tasks)
    if Task.CLASSIFICATION in outputs:
        assert outputs["classification"].shape == (2, 1)
    if Task.SEGMENTATION in outputs:
        assert outputs["segmentation"].shape == images.shape
    for task in set(outputs) - {Task.RECONSTRUCTION}:
        assert 0 <= np.min(outputs[task]) <= np.max(outputs[task]) <= 1


def test_weights_go_into_a_network_built_again(built, tmp_path):
    config, network = built
    again = build(config)
    images = _images(network, np.random.default_rng(1))
    save_weights(network, tmp_path / "weights.npz")
    load_weights(again, tmp_path / "weights.npz")
    before, after = network(images), again(images)
    for task in before:
        np.testing.assert_array_equal(before[task], after[task])


def test_its_branches_give_what_the_whole_gives(built):
    config, network = built
    parts = branches(network, config)
    images = _images(network, np.random.default_rng(2))
    whole, levels = network(images), parts.encoder(images)
    assert set(parts.heads) == set(config.tasks)
    for task, head in parts.heads.items():
        np.testing.assert_allclose(head(levels), whole[task], atol=1e-6)


def test_the_lesion_network_of_two_stages_does_not_train(built):
    config, network = built
    trained = {variable.path.split("/")[0] for variable in network.trainable_variables}
    lesions = {name for name in trained if name.startswith(("node_", "segmentation"))}
    assert bool(lesions) == (
        Task.SEGMENTATION in config.tasks and config.architecture is not Architecture.TWO_STAGE
    )


def test_a_config_of_before_is_of_the_multitask_network():
    assert NetworkConfig.from_json('{"input_size": 64}').architecture is Architecture.MULTITASK


def test_refuses_a_task_that_the_kind_cannot_have():
    with pytest.raises(ConfigError, match="cnn8 has the tasks classification only, not reconstr"):
        NetworkConfig(architecture="cnn8")


def test_refuses_an_input_too_small_for_the_published_network():
    with pytest.raises(ConfigError, match="inception_v3 needs input_size 96"):
        build(_config(Architecture.INCEPTION_V3))


def test_starts_from_a_local_file_of_imagenet_weights(vgg16, tmp_path):
    config, network = _config(Architecture.VGG16), vgg16
    save_weights(network, tmp_path / "vgg16.npz")
    given = replace(config, imagenet_weights=str(tmp_path / "vgg16.npz"))
    started = build(given)
    name = next(layer.name for layer in network.layers if layer.weights)
    np.testing.assert_array_equal(
        network.get_layer(name).get_weights()[0], started.get_layer(name).get_weights()[0]
    )
    (tmp_path / "vgg16.npz").unlink()
    with pytest.raises(ConfigError, match="is not there; nothing is downloaded"):
        build(given)
    build(given, initialise=False)


def test_takes_weights_in_the_published_format(tmp_path):
    import keras

    published = keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    published.save_weights(tmp_path / "vgg16_notop.weights.h5")
    config = _config(Architecture.VGG16, imagenet_weights=str(tmp_path / "vgg16_notop.weights.h5"))
    kernels = [w for layer in build(config).layers for w in layer.get_weights() if w.ndim == 4]
    expected = [w for w in published.get_weights() if w.ndim == 4]
    assert len(kernels) == len(expected) == 13
    for kernel, other in zip(kernels, expected, strict=True):
        np.testing.assert_array_equal(kernel, other)


def test_refuses_imagenet_weights_of_another_network(tmp_path):
    (tmp_path / "other.weights.h5").write_bytes(b"no weights")
    with pytest.raises(ConfigError, match="holds no weights of this network"):
        build(_config(Architecture.VGG16, imagenet_weights=str(tmp_path / "other.weights.h5")))


def test_the_published_network_sees_its_own_range_of_colours(vgg16):
    import keras

    seen = keras.Model(vgg16.input, vgg16.get_layer("imagenet_range").output)
    colours = np.asarray(seen(np.full((1, 32, 32, 1), 0.5, np.float32)))[0, 0, 0]
    grey = np.full((1, 1, 1, 3), 127.5, np.float32)
    expected = keras.applications.vgg16.preprocess_input(grey)[0, 0, 0]
    np.testing.assert_allclose(colours, expected, rtol=1e-4)


def test_the_four_classes_share_one_and_the_first_is_given_out():
    import keras

    network = build(_config(Architecture.FOUR_CLASS_CNN))
    both = keras.Model(network.input, [network.get_layer("classes").output, network.output])
    classes, outputs = both(_images(network, np.random.default_rng(3)))
    np.testing.assert_allclose(np.sum(classes, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(np.asarray(classes)[:, :1], outputs["classification"])


def test_squash_keeps_directions_and_bounds_lengths():
    vectors = np.array([[3.0, 4.0], [0.03, 0.04]], np.float32)
    squashed = np.asarray(squash(vectors))
    np.testing.assert_allclose(np.linalg.norm(squashed, axis=1), [25 / 26, 0.0025], rtol=1e-2)
    np.testing.assert_allclose(squashed[:, 1] / squashed[:, 0], [4 / 3, 4 / 3], rtol=1e-4)


def test_pooled_features_can_be_taken_from_the_published_networks(vgg16):
    assert vgg16.get_layer(FEATURES).output.shape == (None, 512)


def _clouds(count, seed):
    generator = np.random.default_rng(seed)
    covid = np.arange(count) % 2 == 0
    features = generator.standard_normal((count, 6)) + 1.5 * covid[:, None]
    return features.astype(np.float32), covid


def test_the_machine_from_its_file_decides_as_scikit_learn(tmp_path):
    from sklearn.svm import SVC

    features, covid = _clouds(80, 0)
    others, other_covid = _clouds(40, 1)
    machine = fit_machine(features, covid, others, other_covid, roc_auc)
    machine.save(tmp_path / "machine.npz")
    kept = SupportVectorMachine.load(tmp_path / "machine.npz")
    scaled = (features - features.mean(0)) / features.std(0)
    gamma = float(machine.gamma)
    decisions = []
    for penalty in (0.1, 1.0, 10.0):
        fitted = SVC(C=penalty, gamma=gamma, class_weight="balanced").fit(scaled, covid)
        decisions.append(fitted.decision_function((others - features.mean(0)) / features.std(0)))
    best = max(decisions, key=lambda decision: roc_auc(other_covid, decision))
    np.testing.assert_allclose(kept.decide(others), best, atol=1e-4)
    assert roc_auc(other_covid, kept.probabilities(others)[:, 0]) > 0.9


def test_the_machine_needs_both_classes_and_a_whole_file(tmp_path):
    features, covid = _clouds(8, 0)
    with pytest.raises(DatasetError, match="needs both classes"):
        fit_machine(features, np.ones(8, bool), features, covid, roc_auc)
    (tmp_path / "machine.npz").write_bytes(b"no machine")
    with pytest.raises(RegistryError, match="not a support vector machine"):
        SupportVectorMachine.load(tmp_path / "machine.npz")


def test_a_training_config_with_another_kind_round_trips():
    config = TrainingConfig(network=_config(Architecture.CAPSULE))
    assert TrainingConfig.from_json(config.to_json()) == config
