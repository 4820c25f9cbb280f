"""Which segments of a segmentation are lesions: by their codes, never by their labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dicom_node.errors import SegmentationError
from dicom_node.reading import attributes

if TYPE_CHECKING:
    from pydicom import Dataset

# Codes without their scheme: SNOMED CT's numbers and SNOMED RT's letters (still written by much
# software) cannot be taken for one another. Categories are those of CID 7150.
_NEVER_LESIONS = frozenset(
    {
        *("123037004", "91723000", "T-D000A"),  # Anatomical Structure
        *("260787004", "A-00004"),  # Physical object
        *("309825002", "R-42018"),  # Spatial and Relational Concept
    }
)
# The category that segmentation software gives whatever was not coded; with a type of its own
# it is an organ.
_TISSUE = frozenset({"85756007", "T-D0050"})
# Anatomy of the chest, whatever category it was put into.
_ANATOMY = frozenset(
    {
        *("39607008", "T-28000"),  # Lung
        *("3341006", "T-28100"),  # Right lung
        *("44029006", "T-28500"),  # Left lung
        *("42400003", "T-28200", "72481006", "T-28300", "266005", "T-28400"),  # Lobes, right
        *("44714003", "T-28600", "41224006", "T-28700"),  # Lobes, left
        *("44567001", "T-25000", "955009", "T-26000"),  # Trachea, bronchus
        *("80891009", "T-32000", "72410000", "T-D3300"),  # Heart, mediastinum
        *("51185008", "T-D3000"),  # Thorax
    }
)


@dataclass(frozen=True, slots=True)
class Segments:
    """The segments of a segmentation, told apart.

    Attributes
    ----------
    lesions
        Numbers of the segments that are lesions of any kind.
    left_out
        Label and coded type of each other one.
    """

    lesions: frozenset[int]
    left_out: tuple[str, ...]


def lesion_segments(segmentation: Dataset) -> Segments:
    """Tell lesions from anatomy by Segmented Property Category and Type (PS3.3 C.8.20.2).

    Lesions of all kinds count, as in the paper. Anatomy does not: lungs, lobes, organs. A segment
    that was coded as Tissue and nothing more counts as a lesion: it is what segmentation software
    writes where nobody chose a code.

    Raises
    ------
    SegmentationError
        If there is no segment, or none of them is a lesion: that is no empty segmentation.
    """
    lesions: list[int] = []
    left_out: list[str] = []
    for number, segment in _numbered(segmentation):
        category, _ = _code(segment, "SegmentedPropertyCategoryCodeSequence")
        kind, meaning = _code(segment, "SegmentedPropertyTypeCodeSequence")
        organ = category in _TISSUE and kind not in _TISSUE | {""}
        if number == 0 or category in _NEVER_LESIONS or kind in _ANATOMY or organ:
            label = attributes.text(segment, "SegmentLabel")
            left_out.append(f"{label or number} ({meaning or kind or 'no type'})")
        else:
            lesions.append(number)
    if not lesions:
        named = ", ".join(left_out) or "no segment at all"
        raise SegmentationError(
            f"it holds no lesion, but {named}: code the lesions as Morphologically Altered "
            "Structure; to clear a study, leave a lesion's segment empty"
        )
    return Segments(frozenset(lesions), tuple(left_out))


def _numbered(segmentation: Dataset) -> list[tuple[int, Dataset]]:
    found = []
    for segment in attributes.value(segmentation, "SegmentSequence") or ():
        number = attributes.integer(segment, "SegmentNumber")
        if number is None:
            raise SegmentationError("a segment has no number")
        found.append((number, segment))
    return found


def _code(segment: Dataset, keyword: str) -> tuple[str, str]:
    items = attributes.value(segment, keyword)
    if not items:
        return "", ""
    value = attributes.text(items[0], "CodeValue") or attributes.text(items[0], "LongCodeValue")
    return value, attributes.text(items[0], "CodeMeaning")
