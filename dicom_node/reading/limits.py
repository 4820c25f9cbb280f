"""Ceilings on what is read: a header of a few bytes can ask for any amount of memory."""

from __future__ import annotations

from dataclasses import dataclass

from dicom_node.errors import RefusedError
from dicom_node.reading.frames import MOST_FRAMES
from dicom_node.reasons import Reason


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """Largest series that is read into memory.

    Attributes
    ----------
    rows, columns
        Of one frame; the largest CT matrix on sale is 2048 x 2048.
    frames
        Of one series.
    voxels
        Of one series, at two bytes each; the default takes 1 GiB. It bounds a worker's memory, and
        so has nothing to do with the size of what the listener stores.
    elements, value_bytes
        Of the data sets of one series together, without their pixels: all are in memory at once.
        A slice has some hundred elements and a few kilobytes; each alone may reach
        `structure.Ceilings`.
    seconds
        For the pixels of one series: each of thousands of frames could take all the time that the
        decoder allows for one.
    """

    rows: int = 2048
    columns: int = 2048
    frames: int = MOST_FRAMES
    voxels: int = 512 * 1024 * 1024
    elements: int = 5_000_000
    value_bytes: int = 512 * 1024 * 1024
    seconds: float = 1800.0

    def check_parsed(self, elements: int, value_bytes: int) -> None:
        """Refuse a series whose data sets together are beyond a ceiling.

        Raises
        ------
        RefusedError
            TOO_LARGE.
        """
        for name, found, limit in (
            ("elements", elements, self.elements),
            ("bytes of values", value_bytes, self.value_bytes),
        ):
            if found > limit:
                detail = f"more than {limit} {name} besides the pixels, the most we parse"
                raise RefusedError(Reason.TOO_LARGE, detail)

    def check(self, rows: int, columns: int, frames: int) -> None:
        """Refuse a series beyond a ceiling.

        Raises
        ------
        RefusedError
            TOO_LARGE, or UNDECODABLE_PIXELS for an empty matrix.
        """
        if rows < 1 or columns < 1 or frames < 1:
            raise RefusedError(
                Reason.UNDECODABLE_PIXELS, f"a matrix of {rows} x {columns} x {frames} is empty"
            )
        for name, found, limit in (
            ("rows", rows, self.rows),
            ("columns", columns, self.columns),
            ("frames", frames, self.frames),
            ("voxels", rows * columns * frames, self.voxels),
        ):
            if found > limit:
                raise RefusedError(Reason.TOO_LARGE, f"{found} {name}, the ceiling is {limit}")
