"""Settings of receiving."""

from __future__ import annotations

from pydantic import BaseModel, Field

from worker.setting_groups.types import AeTitle, CommaSeparated, Port


class ReceivingSettings(BaseModel):
    """Receiving: whom the DICOM listener serves and how much it takes."""

    ae_title: AeTitle = Field(
        default="LUNGWATCH", description="Our AE title; associations called otherwise are rejected."
    )
    listen_host: str = Field(default="0.0.0.0", description="Address the DICOM listener binds to.")  # noqa: S104 - a listener is there to be reached
    listen_port: Port = Field(default=11112, description="TCP port of the DICOM listener.")
    allowed_calling_ae_titles: CommaSeparated = Field(
        default=(),
        description=(
            "AE titles that may send, separated by commas. Nobody may send while it is "
            "empty; * admits everybody."
        ),
    )
    maximum_associations: int = Field(
        default=16, ge=1, description="Associations accepted at the same time."
    )
    maximum_instance_mb: int = Field(
        default=2048, ge=1, description="Largest instance accepted, in MiB."
    )
    minimum_free_mb: int = Field(
        default=1024,
        ge=0,
        description="Free space of the data folder, in MiB, below which C-STORE answers 0xA700.",
    )
