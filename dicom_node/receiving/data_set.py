"""What a C-STORE's data set is held in while it arrives: memory, a file, or nothing at all.

pynetdicom collects a data set in a `BytesIO` until its last fragment, however long that takes and
however much that is. A few senders could so fill the memory of the node. The objects here take the
place of its `BytesIO`, before a data set gets long; each says itself what became of it, since a
peer may send the next data set before the one before it is answered.
"""

from __future__ import annotations

import errno
import os
import tempfile
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dicom_node.status import StorageStatus

_PART_BYTES = 1 << 20


class FiledDataSet(BytesIO):
    """A long data set, in a file without a name: it is gone with us, however we end.

    Parameters
    ----------
    folder
        On the file system the data set is to be stored on.
    begun
        What has arrived of it.

    Raises
    ------
    OSError
        If there is no such file to be had.
    """

    def __init__(self, folder: Path, begun: BytesIO) -> None:
        super().__init__()
        # Without a buffer, whose last bytes would fail a second time when the file is closed.
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 - closed with this object
        self.failure: OSError | None = None
        with begun.getbuffer() as arrived:
            self._add(arrived)

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        """Add what has arrived; what cannot be written is told at the end, by `failure`."""
        try:
            if self.failure is None:
                self._add(data)
        except OSError as error:
            self.failure = error
        return len(data)

    def _add(self, data: bytes | memoryview) -> None:
        if self._file.write(data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def tell(self) -> int:
        """Return how many bytes have arrived."""
        return self._file.tell()

    def parts(self) -> Iterator[bytes]:
        """Yield the data set, a part at a time.

        Raises
        ------
        OSError
            If it cannot be read, or a part of it could not be written.
        """
        if self.failure is not None:
            raise self.failure
        self._file.seek(0)
        while part := self._file.read(_PART_BYTES):
            yield part

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
        super().close()


class RefusedDataSet(BytesIO):
    """What is left of a data set that will be refused: how. The sender is told at its end.

    Parameters
    ----------
    status
        The answer.
    reason, detail
        The coded reason and a sentence, for the note.
    """

    def __init__(self, status: StorageStatus, reason: str, detail: str) -> None:
        super().__init__()
        self.status, self.reason, self.detail = status, reason, detail

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        """Let go of what arrives."""
        return len(data)


def parts_of(data_set: bytes | BytesIO) -> Iterator[bytes | memoryview]:
    """Yield a data set a part at a time, without a copy of all of it.

    Raises
    ------
    OSError
        If it lies in a file that could not be written or read.
    """
    if isinstance(data_set, FiledDataSet):
        yield from data_set.parts()
    elif isinstance(data_set, BytesIO):
        with data_set.getbuffer() as whole:
            yield whole
    else:
        yield data_set
