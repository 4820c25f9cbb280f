"""Types that settings share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode

# A backslash would separate two values (PS3.5 section 6.2).
ONE_VALUE = r"^[^\\\x00-\x1f]*$"

AeTitle = Annotated[
    str, Field(min_length=1, max_length=16, pattern=r"^[\x21-\x5b\x5d-\x7e][\x20-\x5b\x5d-\x7e]*$")
]
Port = Annotated[int, Field(ge=0, le=65535)]


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
