"""Settings of screening."""

from __future__ import annotations

from pydantic import BaseModel, Field

from worker.setting_groups.types import CommaSeparated


class ScreeningSettings(BaseModel):
    """Screening: the network's threshold and the processes that run it."""

    operating_point: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Threshold on the study probability. Unset: the one stored with the model.",
    )
    minimum_lesion_ml: float = Field(
        default=0.1, ge=0, description="Smallest lesion reported, in millilitres."
    )
    maximum_lesions: int = Field(
        default=20,
        ge=1,
        le=200,
        description="Lesions with a segment of their own; smaller ones share a last segment.",
    )
    worker_processes: int = Field(
        default=1, ge=1, description="Screening processes on a machine without GPU."
    )
    gpus: CommaSeparated = Field(
        default=(), description="GPU indices separated by commas; each gets one screening process."
    )
    lease_seconds: float = Field(
        default=30,
        ge=3,
        description=(
            "Time after which a screening whose worker died is queued again; a living "
            "worker renews it."
        ),
    )
    screening_deadline_seconds: float = Field(
        default=3600,
        gt=0,
        description=(
            "Longest time a screening may take; then its worker process ends itself and the "
            "attempt counts as lost."
        ),
    )
    maximum_attempts: int = Field(
        default=3, ge=1, description="Attempts after which a screening fails for good."
    )
    sweep_seconds: float = Field(
        default=5,
        gt=0,
        description=(
            "Pause between two sweeps for settled studies, lost messages and expired leases."
        ),
    )
    republish_seconds: float = Field(
        default=30,
        gt=0,
        description=(
            "Time after which a queued screening whose turn has come gets another message."
        ),
    )
