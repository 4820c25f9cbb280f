"""Errors of the model package: one root, so that callers can tell ours from a library's."""


class ModelError(Exception):
    """Root of every error the model package raises on purpose."""


class ConfigError(ModelError):
    """A setting of network or training that cannot work; the message names it."""


class VolumeError(ModelError):
    """A CT volume whose array, spacing and affine do not fit each other."""


class NoLungError(ModelError):
    """A CT volume in which no lung field was found: there is nothing to screen."""


class RegistryError(ModelError):
    """A model version that is absent, incomplete or ambiguous in the registry."""


class ModelIntegrityError(RegistryError):
    """Weights whose sha256 is not the one their manifest names; they are never loaded."""


class DatasetError(ModelError):
    """Training data that cannot be used as its manifest describes it."""


class TrainingError(ModelError):
    """A training run that must not go on, for instance after a loss that is not a number."""


class EvaluationError(ModelError):
    """A network or data that cannot be measured, or a document that holds no evaluation."""
