"""Settings of identity."""

from __future__ import annotations

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, Field, field_validator

from worker.setting_groups.types import ONE_VALUE


class IdentitySettings(BaseModel):
    """Identity: what our objects say of the place they were made at."""

    uid_root: str = Field(
        default="2.25.",
        pattern=r"^[012](\.(0|[1-9]\d*))+\.$",
        max_length=40,
        description="Root of the UIDs of our objects, with its last dot.",
    )
    institution_name: str = Field(
        default="",
        max_length=64,
        pattern=ONE_VALUE,
        description="Institution Name in our objects.",
    )
    station_name: str = Field(
        default="LUNGWATCH",
        max_length=16,
        pattern=ONE_VALUE,
        description="Station Name in our objects.",
    )
    timezone: str = Field(
        default="UTC",
        description="Time zone of dates and times in our objects, for instance Europe/Paris.",
    )

    @field_validator("timezone")
    @classmethod
    def _known_time_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError("it is not a time zone of the IANA database") from None
        return value
