"""Settings of models."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field

from worker.setting_groups.types import CommaSeparated


class ModelSettings(BaseModel):
    """Model versions and training: which one screens, what judges it, where training runs."""

    model: str | None = Field(
        default=None,
        description=(
            "Model version to screen with (name-version or sha256), which pins it: promotions are "
            "refused then. Unset: the version promoted last, before the first promotion the "
            "newest shipped one, whatever else is in the model folder."
        ),
    )
    model_dir: Path | None = Field(
        default=None, description="Folder with further model versions beside the shipped one."
    )
    locked_test_set: Path | None = Field(
        default=None,
        description=(
            "Manifest of the images that promotions are judged on; its rows of the split test "
            "count. Unset: no version can be promoted."
        ),
    )
    promotion_margins: CommaSeparated = Field(
        default=("auc=0.02", "dice=0.02", "sensitivity=0.03", "specificity=0.03"),
        description=(
            "How much lower each figure of a candidate may be than that of the version in use, "
            "overall and on each source; source/metric=number sets that of one source."
        ),
    )
    training_gpus: CommaSeparated = Field(
        default=(),
        description=(
            "GPU indices separated by commas for `lungwatch trainer` and `lungwatch retrain`; "
            "unset: they train on the CPU. None of them may be among LUNGWATCH_GPUS."
        ),
    )
    training_niceness: int = Field(
        default=10,
        ge=0,
        le=19,
        description=(
            "Niceness of `lungwatch trainer`: how far it stands back where screening wants the "
            "same processors. 0 for a machine that trains alone."
        ),
    )
    training_beside_screening: bool = Field(
        default=False,
        description="Whether a training may use a GPU that screens as well: true or false.",
    )
