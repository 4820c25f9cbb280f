"""What an experiment is, at the paper's scale and at the one a machine without a GPU can run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from model.config import Architecture, NetworkConfig, Normalisation, Schedule, Task, TrainingConfig
from model.errors import ConfigError

EPOCH_STEPS = 100


class Scale(StrEnum):
    """Size of a run."""

    FULL = "full"
    REDUCED = "reduced"


class Table(StrEnum):
    """Table of results that a row belongs to."""

    TABLE2 = "table2"
    BASELINES = "baselines"


class Procedure(StrEnum):
    """How the row's system is trained."""

    ONE_NETWORK = "one network"
    TWO_STAGES = "lesions first, then the class"
    FEATURES_AND_SVM = "features, then a support vector machine"
    CROPS = "crops of volumes"


@dataclass(frozen=True)
class Budget:
    """What every row of a table gets at the reduced scale.

    Attributes
    ----------
    steps, batch_size
        Optimizer steps and images in each.
    learning_rate
        Highest rate of Adam, which falls along a cosine to a fiftieth of it.
    masked_share
        Share of each batch drawn from the groups of images with lesion masks, so that a short run
        sees enough of them.
    reconstruction_samples
        Images of each batch that are reconstructed; a part of them gives the same mean loss.
    """

    steps: int
    batch_size: int
    learning_rate: float
    masked_share: float
    reconstruction_samples: int = 2


BUDGETS = {
    Table.TABLE2: Budget(steps=5000, batch_size=4, learning_rate=1e-3, masked_share=0.25),
    Table.BASELINES: Budget(steps=300, batch_size=4, learning_rate=5e-4, masked_share=0.25),
}


@dataclass(frozen=True)
class Published:
    """Figures a paper gives, as it gives them: shares of 1, None where it gives none."""

    dice: float | None = None
    accuracy: float | None = None
    sensitivity: float | None = None
    specificity: float | None = None
    auc: float | None = None


@dataclass(frozen=True)
class Experiment:
    """One row of a table.

    Attributes
    ----------
    name, title
        Name on the command line, and in the table.
    table
        Where its results go.
    full
        The run at full scale.
    published
        What is published of the row's system.
    published_on
        Data of the published figures, where they are not the paper's own test set.
    procedure
        How it is trained.
    """

    name: str
    title: str
    table: Table
    full: TrainingConfig
    published: Published = field(default_factory=Published)
    published_on: str = ""
    procedure: Procedure = Procedure.ONE_NETWORK

    def one_run(self) -> TrainingConfig:
        """Return the full settings of a row that is one training run.

        Raises
        ------
        ConfigError
            If its system takes more than that.
        """
        if self.procedure is not Procedure.ONE_NETWORK:
            raise ConfigError(
                f"{self.name} is more than one training run ({self.procedure.value}): "
                f"use `lungwatch experiments run {self.name}`"
            )
        return self.full

    def config(self, scale: Scale, steps: int = 0) -> TrainingConfig:
        """Return the run's settings at a scale.

        Parameters
        ----------
        scale
            Full or reduced.
        steps
            Optimizer steps in all, where they are not to be the scale's own.
        """
        config = self.full if scale is Scale.FULL else reduced(self.full, BUDGETS[self.table])
        if not steps:
            return config
        epoch = min(steps, EPOCH_STEPS)
        epochs = -(-steps // epoch)
        return replace(config, steps_per_epoch=epoch, epochs=epochs, patience=epochs)


def reduced(full: TrainingConfig, budget: Budget) -> TrainingConfig:
    """Return a run that a processor can finish; the same rule for every row.

    Notes
    -----
    Half the input size (128 for 256, 256 for 512), an eighth of the first level's maps (networks
    of one published size keep theirs), batch normalisation where the network has a choice, and
    the budget's steps, without early stopping: every row takes the same number of steps.
    """
    network = replace(
        full.network,
        input_size=full.network.input_size // 2,
        base_filters=max(full.network.base_filters // 8, 1),
        normalisation=Normalisation.BATCH,
    )
    epochs = -(-budget.steps // EPOCH_STEPS)
    return replace(
        full,
        network=network,
        batch_size=budget.batch_size,
        learning_rate=budget.learning_rate,
        schedule=Schedule.COSINE,
        reconstruction_samples=budget.reconstruction_samples,
        steps_per_epoch=EPOCH_STEPS,
        epochs=epochs,
        patience=epochs,
    )


def multitask(*tasks: Task, input_size: int = 256) -> TrainingConfig:
    """Return the paper's run of its own network with some of the tasks."""
    return TrainingConfig(network=NetworkConfig(input_size=input_size, tasks=tasks))


def baseline(
    architecture: Architecture, *tasks: Task, input_size: int = 256, base_filters: int = 64
) -> TrainingConfig:
    """Return a run of another kind of network with the paper's settings of training."""
    network = NetworkConfig(
        input_size=input_size,
        tasks=tasks or (Task.CLASSIFICATION,),
        base_filters=base_filters,
        architecture=architecture,
    )
    return TrainingConfig(network=network)
