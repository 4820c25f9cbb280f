"""What all tables share: their root, and the column types that stand for codes, UIDs and keys."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, Enum, Integer, MetaData, String
from sqlalchemy.orm import DeclarativeBase

from worker.db.types import UtcDateTime

Uid = String(64)
Digest = String(64)
Key = BigInteger().with_variant(Integer, "sqlite")


def coded(codes: type[StrEnum], length: int = 16) -> Enum:
    """Give the column type of a coded value.

    As text, without a constraint: a new code then needs no migration.

    Parameters
    ----------
    codes
        The codes.
    length
        Characters of the longest that may ever come.
    """
    return Enum(
        codes,
        native_enum=False,
        create_constraint=False,
        length=length,
        values_callable=lambda members: [member.value for member in members],
    )


class Base(DeclarativeBase):
    """Root of all tables; names every constraint so that migrations can refer to it."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcDateTime, dict[str, Any]: JSON}  # noqa: RUF012 - SQLAlchemy's own way
