"""Stored pixel values to Hounsfield units, by a table of all 65,536 values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Self

import numpy as np

from dicom_node.errors import RefusedError
from dicom_node.reading import attributes
from dicom_node.reasons import Reason

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom import Dataset

AIR_HU = -1024
_INT16 = np.iinfo(np.int16)


@dataclass(frozen=True, slots=True)
class PixelEncoding:
    """How a 16-bit cell holds a pixel value (PS3.5 section 8.1.1).

    Attributes
    ----------
    bits_stored, high_bit
        Which bits of the cell count; the others may hold anything.
    signed
        Whether the value is two's complement.
    padding
        Smallest and largest padding value (PS3.3 section C.7.5.1.1.2), or None.
    """

    bits_stored: int
    high_bit: int
    signed: bool
    padding: tuple[int, int] | None = None

    @classmethod
    def from_dataset(cls, dataset: Dataset) -> Self:
        """Take the encoding from the Image Pixel Module.

        Raises
        ------
        RefusedError
            UNDECODABLE_PIXELS where it is not one that a CT image may have (PS3.3 section
            C.8.2.1.1).
        """
        allocated, stored, high, samples = (
            attributes.integer(dataset, keyword)
            for keyword in ("BitsAllocated", "BitsStored", "HighBit", "SamplesPerPixel")
        )
        stored = 16 if stored is None else stored
        high = stored - 1 if high is None else high
        if allocated != 16 or samples not in (None, 1) or not 0 <= stored - 1 <= high <= 15:
            raise RefusedError(
                Reason.UNDECODABLE_PIXELS,
                f"{samples} samples of {allocated} bits, {stored} stored, high bit {high}: not "
                "the pixels of a CT image",
            )
        signed = attributes.integer(dataset, "PixelRepresentation") == 1
        return cls(stored, high, signed, _padding(dataset, signed=signed))

    def values(self) -> NDArray[np.int64]:
        """Give the value of each content of the cell, shape (65536,)."""
        cells = np.arange(1 << 16, dtype=np.uint16) << np.uint16(15 - self.high_bit)
        typed = cells.view(np.int16) if self.signed else cells
        return (typed >> typed.dtype.type(16 - self.bits_stored)).astype(np.int64)


@lru_cache(maxsize=64)
def hounsfield_table(
    encoding: PixelEncoding, slope: float | None, intercept: float | None
) -> NDArray[np.int16]:
    """Give the Hounsfield unit of each content of a 16-bit cell.

    Parameters
    ----------
    encoding
        What the cell holds.
    slope, intercept
        Of the Modality LUT Module (PS3.3 section C.11.1).

    Returns
    -------
    ndarray
        Shape (65536,), int16, read-only: rounded to whole units, clipped to int16, padding set
        to air. Index it with the cell as an unsigned integer.

    Raises
    ------
    RefusedError
        MISSING_RESCALE where slope or intercept is None, or the slope is zero.
    """
    if not slope or intercept is None:
        raise RefusedError(Reason.MISSING_RESCALE, "no rescale slope or intercept")
    values = encoding.values()
    units = np.rint(values * slope + intercept)
    if encoding.padding is not None:
        low, high = encoding.padding
        units[(values >= low) & (values <= high)] = AIR_HU
    table: NDArray[np.int16] = np.clip(units, _INT16.min, _INT16.max).astype(np.int16)
    table.flags.writeable = False
    return table


def _padding(dataset: Dataset, *, signed: bool) -> tuple[int, int] | None:
    """Read the padding range; its VR (US or SS) is often the wrong one, its 16 bits are right."""
    value = attributes.integer(dataset, "PixelPaddingValue")
    if value is None:
        return None
    limit = attributes.integer(dataset, "PixelPaddingRangeLimit")
    ends = [value, value if limit is None else limit]
    if not all(-(1 << 15) <= end < 1 << 16 for end in ends):
        return None  # no cell can hold it, so it marks none
    cells = np.array(ends, np.int64).astype(np.uint16)
    typed = cells.view(np.int16) if signed else cells
    return int(typed.min()), int(typed.max())
