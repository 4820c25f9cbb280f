"""Values of a source as the result objects may carry them: decoded texts that are valid anew."""

from __future__ import annotations

import logging
import unicodedata
from typing import TYPE_CHECKING, Any

from pydicom import Dataset
from pydicom.config import RAISE
from pydicom.datadict import dictionary_VM, dictionary_VR
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as DicomSequence
from pydicom.valuerep import validate_value

from dicom_node.reading import attributes

if TYPE_CHECKING:
    from collections.abc import Iterable

_log = logging.getLogger(__name__)

# Characters of a text, for PN of each component group (PS3.5 section 6.2).
_LENGTHS = {"LO": 64, "SH": 16, "PN": 64}
_NAME_GROUPS = 3
_CODE_VALUES = ("CodeValue", "LongCodeValue", "URNCodeValue")
_CODE_TEXTS = (*_CODE_VALUES, "CodingSchemeDesignator", "CodingSchemeVersion", "CodeMeaning")


def copy_valid(source: Dataset, target: Dataset, keywords: Iterable[str]) -> None:
    """Copy attributes as far as they are, or can be made, valid for their VR (PS3.5 section 6.2).

    Texts are decoded from the source's character set; one that is unknown, or that its bytes
    break, costs characters, never the text. A text longer than its VR allows is cut: archives
    keep no more of it either, and results are filed by their study, not by it. Values with a
    closed form, as dates or codes, are left out when they break it: part of one would say
    something else.

    Parameters
    ----------
    source
        A received data set.
    target
        Changed in place; what is left out stays absent.
    keywords
        Attributes of VR LO, SH, PN, SQ (of codes), or one with a closed form.
    """
    for keyword in keywords:
        found = attributes.value(source, keyword)
        if found is None:
            continue
        valid = _valid(keyword, found)
        if valid:
            setattr(target, keyword, valid)
        else:
            _log.warning("%s of the source breaks its VR and is left out", keyword)


def _valid(keyword: str, found: Any) -> list[str] | str | list[Dataset] | None:  # noqa: ANN401
    vr = dictionary_VR(keyword)
    if vr == "SQ":
        return _valid_codes(found)
    items = list(found) if isinstance(found, MultiValue | list | tuple) else [found]
    if any(isinstance(item, bytes | Dataset) for item in items):
        return None
    texts = [_printable(str(item)) for item in items]
    if dictionary_VM(keyword) == "1":
        # A backslash in a single value parts it in two; both belong to it.
        return _fit(vr, "/".join(texts))
    fitting = [fit for text in texts if (fit := _fit(vr, text))]
    return fitting if len(fitting) == len(texts) else None


def _fit(vr: str, text: str) -> str | None:
    """Give a text that is valid for a VR, or None where none can be made of it."""
    if vr == "PN":
        groups = (_fit_name(group) for group in text.split("=")[:_NAME_GROUPS])
        return "=".join(groups).rstrip("=") or None
    if vr in _LENGTHS:
        return text[: _LENGTHS[vr]].strip() or None
    try:
        validate_value(vr, text, RAISE)
    except ValueError:
        return None
    return text or None


def _fit_name(group: str) -> str:
    """Fit one component group of a name: five components at most, of 64 characters together."""
    family, *others = group.split("^", maxsplit=4)
    components = [family, *(other.replace("^", " ") for other in others)]
    return "^".join(components)[: _LENGTHS["PN"]].strip()


def _printable(text: str) -> str:
    """Drop control characters and halves of surrogate pairs."""
    return "".join(c for c in text if unicodedata.category(c) not in {"Cc", "Cs"}).strip()


def _valid_codes(found: Any) -> list[Dataset] | None:  # noqa: ANN401
    if not isinstance(found, DicomSequence):
        return None
    codes = (_valid_code(item) for item in found)
    return [code for code in codes if code is not None] or None


def _valid_code(item: Dataset) -> Dataset | None:
    """Give the basic coded entry (PS3.3 table 8.8-1) of an item, or None where it is none."""
    code = Dataset()
    for keyword in _CODE_TEXTS:
        text = _printable(attributes.text(item, keyword))
        fit = _fit(dictionary_VR(keyword), text)
        # Cut, a code is another code; only its meaning is for people.
        if fit and (fit == text or keyword == "CodeMeaning"):
            setattr(code, keyword, fit)
    values = sum(keyword in code for keyword in _CODE_VALUES)
    named = "CodingSchemeDesignator" in code or "URNCodeValue" in code
    return code if values == 1 and named and "CodeMeaning" in code else None
