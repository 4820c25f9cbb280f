"""Settings of retention."""

from __future__ import annotations

from pydantic import BaseModel, Field


class RetentionSettings(BaseModel):
    """Retention: how long images and results are kept here; the database keeps its record."""

    retention_days: float = Field(
        default=30,
        ge=0,
        description=(
            "Days after which images and results of a study are removed here, counted from its "
            "completion, once every destination keeps every result. 0: never by age."
        ),
    )
    retention_refused_days: float = Field(
        default=90,
        ge=0,
        description=(
            "Days after which the images of a study that was refused, ignored or failed are "
            "removed, and what could not be read. 0: never."
        ),
    )
    retention_reviewed_days: float = Field(
        default=365,
        ge=0,
        description=(
            "Days after its last review for which a reviewed study is kept instead, so that the "
            "network can learn from it. 0: never removed."
        ),
    )
    retention_free_mb: int = Field(
        default=4096,
        ge=0,
        description=(
            "Free space of the data folder, in MiB, below which delivered studies are removed "
            "before their time, the oldest first; reviewed ones are not. At least 256 more than "
            "LUNGWATCH_MINIMUM_FREE_MB, below which nothing is received. 0: never."
        ),
    )
