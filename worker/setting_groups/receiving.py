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
            "Who may send, separated by commas: AE_TITLE@ADDRESS, where the address may be a "
            "network such as 10.1.2.0/24, and with TLS AE_TITLE@ADDRESS#NAME, the name being one "
            "in the sender's certificate, or sha256: and its fingerprint. Without @ADDRESS an AE "
            "title may call from anywhere; * stands for every AE title. Nobody may send while it "
            "is empty. Write @, # and % within an AE title as %40, %23 and %25."
        ),
    )
    maximum_associations: int = Field(
        default=16, ge=1, description="Associations accepted at the same time."
    )
    maximum_associations_per_address: int = Field(
        default=8,
        ge=1,
        description=(
            "Of these, how many one address may have, so that one sender does not keep out the "
            "others. Of IPv6 the first 64 bits count."
        ),
    )
    maximum_instance_mb: int = Field(
        default=2048, ge=1, description="Largest instance accepted, in MiB."
    )
    minimum_free_mb: int = Field(
        default=1024,
        ge=0,
        description="Free space of the data folder, in MiB, below which C-STORE answers 0xA700.",
    )
