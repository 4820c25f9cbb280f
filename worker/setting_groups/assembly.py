"""Settings of assembly."""

from __future__ import annotations

from pydantic import BaseModel, Field


class AssemblySettings(BaseModel):
    """Which studies are screened: when a study is complete and which of its series qualify."""

    settle_seconds: float = Field(
        default=30,
        gt=0,
        description="A study is complete when nothing of it has arrived for this long.",
    )
    minimum_slices: int = Field(
        default=24, ge=3, description="Fewest slices of a series that is screened."
    )
    minimum_coverage_mm: float = Field(
        default=120,
        gt=0,
        description="Smallest extent along the patient axis of a series that is screened, in mm.",
    )
