"""Frozen settings of the network and of its training, which round-trip through JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self, get_args, get_origin, get_type_hints

from model.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path


class Task(StrEnum):
    """The tasks that share the encoder (paper, section "Multi-task learning")."""

    RECONSTRUCTION = "reconstruction"
    SEGMENTATION = "segmentation"
    CLASSIFICATION = "classification"


class Architecture(StrEnum):
    """Kind of network; all but the first are what the paper measures itself against."""

    MULTITASK = "multitask"
    CNN8 = "cnn8"
    RESNET50 = "resnet50"
    INCEPTION_V3 = "inception_v3"
    INCEPTION_RESNET_V2 = "inception_resnet_v2"
    VGG16 = "vgg16"
    DENSENET169 = "densenet169"
    FOUR_CLASS_CNN = "four_class_cnn"
    CAPSULE = "capsule"
    TWO_STAGE = "two_stage"
    UNET_PLUS_PLUS = "unet_plus_plus"
    UNET_PLUS_PLUS_3D = "unet_plus_plus_3d"


SEGMENTING = frozenset({Architecture.UNET_PLUS_PLUS, Architecture.UNET_PLUS_PLUS_3D})


def possible_tasks(architecture: Architecture) -> tuple[Task, ...]:
    """Return the tasks a kind of network can have a branch for."""
    if architecture is Architecture.MULTITASK:
        return tuple(Task)
    if architecture is Architecture.TWO_STAGE:
        return (Task.SEGMENTATION, Task.CLASSIFICATION)
    return (Task.SEGMENTATION,) if architecture in SEGMENTING else (Task.CLASSIFICATION,)


class Normalisation(StrEnum):
    """What follows each convolution before its activation; the paper has nothing there."""

    NONE = "none"
    BATCH = "batch"


class Schedule(StrEnum):
    """Course of the learning rate over a run."""

    CONSTANT = "constant"
    COSINE = "cosine"


class Precision(StrEnum):
    """Arithmetic of a training step; weights, outputs and losses are float32 in each."""

    FLOAT32 = "float32"
    MIXED_BFLOAT16 = "mixed_bfloat16"
    MIXED_FLOAT16 = "mixed_float16"


class _JsonConfig:
    """JSON round trip with unknown names refused, so that a misspelt setting is not ignored."""

    def to_json(self) -> str:
        """Return the settings as JSON with sorted names."""
        return json.dumps(asdict(self), indent=2, sort_keys=True)  # type: ignore[call-overload]

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Build the settings from `to_json`'s text; absent names keep their defaults.

        Raises
        ------
        ConfigError
            If the text is no JSON object, or names or values do not fit.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"{cls.__name__}: not JSON: {error}") from error
        if not isinstance(values, dict):
            raise ConfigError(f"{cls.__name__}: expected a JSON object")
        return cls.from_dict(values)

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Build the settings from a file of `to_json`'s text.

        Raises
        ------
        ConfigError
            If it cannot be read, or `from_json` refuses it; the message names the file.
        """
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path}: no text in UTF-8, which a file of settings is") from error
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build the settings from plain values; see `from_json`."""
        known = {item.name for item in fields(cls)}  # type: ignore[arg-type]
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigError(
                f"{cls.__name__} has no setting {', '.join(unknown)}; "
                f"it has {', '.join(sorted(known))}"
            )
        types = get_type_hints(cls)
        for name, value in values.items():
            if not _fits(value, types[name]):
                raise ConfigError(
                    f"{cls.__name__}: {name} must be {_described(types[name])}, not {value!r}"
                )
        try:
            return cls(**values)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{cls.__name__}: {error}") from error


_SCALARS = {int: "a whole number", float: "a number", str: "a text"}


def _fits(value: object, kind: type) -> bool:
    """Say whether a value, as JSON gives it, can be a setting of a type."""
    if get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            return False
        items = get_args(kind)
        if items[-1] is Ellipsis:
            return all(_fits(item, items[0]) for item in value)
        return len(value) == len(items) and all(map(_fits, value, items))
    if kind in (int, float):
        allowed = int if kind is int else int | float
        return isinstance(value, allowed) and not isinstance(value, bool)
    if issubclass(kind, str):  # a StrEnum tells itself which texts it knows
        return isinstance(value, str)
    return isinstance(value, (dict, kind))


def _described(kind: type) -> str:
    """Return what a setting of a type has to be, in words."""
    if get_origin(kind) is tuple:
        items = get_args(kind)
        if items[-1] is Ellipsis:
            return f"a list, each {_described(items[0])}"
        return f"a list of {' and '.join(_described(item) for item in items)}"
    if issubclass(kind, StrEnum):
        return f"one of {', '.join(kind)}"
    return _SCALARS.get(kind, "an object of settings")


def _require(condition: bool, message: str) -> None:  # noqa: FBT001
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True)
class NetworkConfig(_JsonConfig):
    """Shape of the network; the defaults are the paper's (section "Network").

    Attributes
    ----------
    input_size
        Rows and columns of the input, a multiple of 32 (four poolings and the classifier's).
    base_filters
        Feature maps of the first level; doubled at each of the four poolings.
    tasks
        Tasks that get a branch.
    normalisation
        Layer between convolution and activation.
    classifier_filters, classifier_units
        Maps of the classifier's convolution and widths of its dense layers.
    dropout
        Dropout rate behind each dense layer of the classifier.
    architecture
        Kind of network; `base_filters`, `classifier_filters` and `classifier_units` shape those
        that have such parts, and are ignored by those of one published size.
    imagenet_weights
        Local file with ImageNet weights to start from (see `model.baselines.transfer`); empty:
        random ones. Nothing is ever downloaded.
    """

    input_size: int = 256
    base_filters: int = 64
    tasks: tuple[Task, ...] = tuple(Task)
    normalisation: Normalisation = Normalisation.NONE
    classifier_filters: int = 128
    classifier_units: tuple[int, ...] = (128, 64)
    dropout: float = 0.5
    architecture: Architecture = Architecture.MULTITASK
    imagenet_weights: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "architecture", Architecture(self.architecture))
        chosen = {Task(task) for task in self.tasks}
        object.__setattr__(self, "tasks", tuple(task for task in Task if task in chosen))
        object.__setattr__(self, "normalisation", Normalisation(self.normalisation))
        object.__setattr__(self, "classifier_units", tuple(self.classifier_units))
        _require(
            self.input_size >= 32 and self.input_size % 32 == 0,
            f"input_size must be a positive multiple of 32, not {self.input_size}",
        )
        _require(self.base_filters >= 1, f"base_filters must be positive, not {self.base_filters}")
        _require(bool(self.tasks), "tasks must name at least one task")
        able = possible_tasks(self.architecture)
        _require(
            set(self.tasks) <= set(able),
            f"{self.architecture} has the tasks {', '.join(able)} only, "
            f"not {', '.join(task for task in self.tasks if task not in able)}",
        )
        _require(
            self.classifier_filters >= 1 and all(units >= 1 for units in self.classifier_units),
            "classifier_filters and classifier_units must be positive",
        )
        _require(0 <= self.dropout < 1, f"dropout must lie in [0, 1), not {self.dropout}")


@dataclass(frozen=True)
class AugmentationConfig(_JsonConfig):
    """Strength of each random change of a training image; 0 turns it off.

    They imitate what differs between journal figures and CT series (window, crop, sharpness), so
    that a class tied to one source is harder to tell by the source's looks.

    Attributes
    ----------
    window
        Largest shift of the two window edges, as a share of the intensity range.
    gamma
        Largest change of the logarithm of gamma.
    scale, aspect, shift
        Largest relative change of size and aspect, and of position, as shares of the image.
    rotation_degrees
        Largest rotation.
    flip_probability
        Probability of a left-right flip.
    blur_sigma, noise
        Largest Gaussian blur in pixels and largest standard deviation of Gaussian noise.
    """

    window: float = 0.2
    gamma: float = 0.35
    scale: float = 0.15
    aspect: float = 0.08
    shift: float = 0.08
    rotation_degrees: float = 12.0
    flip_probability: float = 0.5
    blur_sigma: float = 1.0
    noise: float = 0.03

    def __post_init__(self) -> None:
        for item in fields(self):
            _require(getattr(self, item.name) >= 0, f"{item.name} must not be negative")
        _require(self.flip_probability <= 1, "flip_probability must lie in [0, 1]")


@dataclass(frozen=True)
class TrainingConfig(_JsonConfig):
    """One training run; batch size, learning rate, epochs and patience default to the paper's.

    Attributes
    ----------
    network, augmentation
        What is trained, and how images are changed on the way.
    seed
        Seed of initialisation, sampling and augmentation.
    batch_size, learning_rate, epochs, patience
        Adam with mini-batches; the run ends `patience` epochs after the best validation score.
    steps_per_epoch
        Batches that make one epoch; 0 means as many as show each training image once.
    schedule
        Course of the learning rate over all epochs.
    averaging
        Momentum of the exponential average of the weights that is validated and shipped; 0 is off.
    dice_smoothing
        Smoothing term `s` of the Dice loss, in pixels.
    segmentation_warm_up_steps
        Steps over which the Dice loss grows to full weight.
    reconstruction_samples
        Samples of each batch, the first ones of its random order, that give the reconstruction
        loss; 0 means all, as in the paper. A part of them estimates the same mean at less cost.
    empty_mask_sources
        Sources whose non-COVID images count as images with an empty lesion mask; all other
        images without a mask give no segmentation loss.
    paste_shares
        Pairs of (source, share): so many of the source's images without COVID-19 get lesions of
        other images pasted into them, and count as COVID-19 with those lesions.
    source_shares
        Pairs of (source/class, share) that a training epoch draws from; empty means the data as
        they are. A group is named as in `model.data.dataset.Sample.group`; a run does not begin
        with data of a group that has no share, and a share of 0 leaves a group out.
    precision
        Arithmetic of a step. bfloat16 pays on GPUs and on CPUs with AMX; float16, whose loss is
        scaled, on GPUs alone.
    label_smoothing
        How far each class is moved towards 0.5 in the classification loss; 0 is off.
    weight_decay
        Decoupled decay of all weights but biases and normalisation (AdamW); 0 is off.
    gradient_clip
        Largest norm of all gradients together; longer ones are scaled down to it; 0 is off.
    checkpoint_steps
        Steps between checkpoints within an epoch; 0 means one after each epoch only.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    seed: int = 20200416
    batch_size: int = 4
    learning_rate: float = 1e-4
    epochs: int = 500
    patience: int = 35
    steps_per_epoch: int = 0
    schedule: Schedule = Schedule.CONSTANT
    averaging: float = 0.0
    dice_smoothing: float = 1.0
    segmentation_warm_up_steps: int = 0
    reconstruction_samples: int = 0
    empty_mask_sources: tuple[str, ...] = ()
    paste_shares: tuple[tuple[str, float], ...] = ()
    source_shares: tuple[tuple[str, float], ...] = ()
    precision: Precision = Precision.FLOAT32
    label_smoothing: float = 0.0
    weight_decay: float = 0.0
    gradient_clip: float = 0.0
    checkpoint_steps: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.network, dict):
            object.__setattr__(self, "network", NetworkConfig.from_dict(self.network))
        if isinstance(self.augmentation, dict):
            object.__setattr__(
                self, "augmentation", AugmentationConfig.from_dict(self.augmentation)
            )
        object.__setattr__(self, "schedule", Schedule(self.schedule))
        object.__setattr__(self, "precision", Precision(self.precision))
        object.__setattr__(self, "empty_mask_sources", tuple(self.empty_mask_sources))
        for name in ("paste_shares", "source_shares"):
            shares = tuple((str(key), float(share)) for key, share in getattr(self, name))
            object.__setattr__(self, name, shares)
            _require(all(share >= 0 for _, share in shares), f"{name} must not be negative")
        for name in ("batch_size", "epochs", "patience"):
            _require(getattr(self, name) >= 1, f"{name} must be at least 1")
        for name in (
            "steps_per_epoch",
            "segmentation_warm_up_steps",
            "reconstruction_samples",
            "dice_smoothing",
            "weight_decay",
            "gradient_clip",
            "checkpoint_steps",
        ):
            _require(getattr(self, name) >= 0, f"{name} must not be negative")
        _require(self.learning_rate > 0, "learning_rate must be positive")
        _require(0 <= self.averaging < 1, "averaging must lie in [0, 1)")
        _require(0 <= self.label_smoothing < 1, "label_smoothing must lie in [0, 1)")
