"""Tolerant access to the attributes of a received data set: odd values are absent, never fatal."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydicom.multival import MultiValue
from pydicom.tag import BaseTag, Tag

if TYPE_CHECKING:
    from pydicom import Dataset

_UID = re.compile(r"[0-9.]{1,64}")
_LONGEST_TEXT = 1024


@lru_cache(maxsize=256)
def _tag(keyword: str) -> BaseTag:
    return Tag(keyword)


def value(dataset: Dataset, keyword: str) -> Any:  # noqa: ANN401
    """Give an element's value, or None where it is absent, empty or cannot be converted."""
    tag = _tag(keyword)
    if tag not in dataset:
        return None
    try:
        found = dataset[tag].value
    except Exception:  # noqa: BLE001 - whatever pydicom makes of damaged bytes, they are no value
        return None
    return None if found in (None, "") else found


def text(dataset: Dataset, keyword: str) -> str:
    r"""Give an element as text, its values joined by a backslash; empty where it is absent.

    Of a text longer than any that a worklist could show, the rest is left out.
    """
    found = value(dataset, keyword)
    if found is None:
        return ""
    if isinstance(found, MultiValue | list | tuple):
        return "\\".join(_clean(item) for item in found[:_LONGEST_TEXT])[:_LONGEST_TEXT]
    return _clean(found)[:_LONGEST_TEXT]


def _clean(item: object) -> str:
    """Drop padding, and what databases and JSON cannot hold: NUL and halves of surrogate pairs."""
    return str(item).replace("\0", "").encode("utf-8", "replace").decode().strip()


def texts(dataset: Dataset, keyword: str) -> tuple[str, ...]:
    """Give the values of a multi-valued text element."""
    joined = text(dataset, keyword)
    return tuple(part.strip() for part in joined.split("\\")) if joined else ()


def uid(dataset: Dataset, keyword: str) -> str:
    """Give a UID, or the empty string where the value cannot be one (PS3.5 section 9.1)."""
    found = text(dataset, keyword)
    return found if _UID.fullmatch(found) else ""


def decimals(dataset: Dataset, keyword: str, count: int) -> tuple[float, ...] | None:
    """Give exactly `count` finite numbers, or None."""
    found = value(dataset, keyword)
    if found is None:
        return None
    items = found if isinstance(found, MultiValue | list | tuple) else [found]
    try:
        numbers = tuple(float(item) for item in items)
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None


def decimal(dataset: Dataset, keyword: str) -> float | None:
    """Give one finite number, or None."""
    numbers = decimals(dataset, keyword, 1)
    return numbers[0] if numbers else None


def integer(dataset: Dataset, keyword: str) -> int | None:
    """Give one whole number, or None."""
    number = decimal(dataset, keyword)
    return int(number) if number is not None and number.is_integer() else None
