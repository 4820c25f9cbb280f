"""Frames of stored pixel values: native ones from the file, compressed ones from native codecs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.errors import ConfigurationError, RefusedError, is_from_system
from dicom_node.reading import attributes
from dicom_node.reading.codestream import declares, is_whole
from dicom_node.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import BinaryIO

    from numpy.typing import NDArray
    from pydicom import Dataset

NATIVE_TRANSFER_SYNTAXES = frozenset((ImplicitVRLittleEndian, ExplicitVRLittleEndian))

# The fastest decoder first; the others stand in where it is not installed. Deflated data sets
# are left out since a small one may inflate without bound, big endian since it is retired.
_PLUGINS: dict[UID, tuple[str, ...]] = {
    JPEGLosslessSV1: ("gdcm",),
    JPEGLossless: ("gdcm",),
    JPEGLSLossless: ("pyjpegls", "gdcm"),
    JPEG2000Lossless: ("pylibjpeg", "pillow", "gdcm"),
    # Not pydicom's own: it is slow, and it lets a segment grow to 64 times its size.
    RLELossless: ("pylibjpeg",),
}

READABLE_TRANSFER_SYNTAXES = NATIVE_TRANSFER_SYNTAXES | frozenset(_PLUGINS)

# A lossless codec may enlarge noise a little; far more than the native size is no image.
_LARGEST_EXPANSION = 2
_ENVELOPE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPixels:
    """All that is needed to read the pixel data of one instance, of 16 bits and one sample.

    Attributes
    ----------
    path
        The file.
    offset
        Where the value of its Pixel Data begins.
    frames, rows, columns
        Of the data set.
    bits_stored, pixel_representation
        Of the Image Pixel Module (PS3.3 section C.7.6.3).
    extended_offsets
        Extended Offset Table and Extended Offset Table Lengths, in hexadecimal, or None.
    """

    path: str
    offset: int
    sop_instance_uid: str
    transfer_syntax_uid: str
    frames: int
    rows: int
    columns: int
    bits_stored: int
    pixel_representation: int
    extended_offsets: tuple[str, str] | None = None

    @classmethod
    def of(cls, path: Path, dataset: Dataset, offset: int) -> Self:
        """Describe the pixel data of a data set that was read without them."""
        offsets = attributes.value(dataset, "ExtendedOffsetTable")
        lengths = attributes.value(dataset, "ExtendedOffsetTableLengths")
        return cls(
            path=str(path),
            offset=offset,
            sop_instance_uid=attributes.uid(dataset, "SOPInstanceUID"),
            transfer_syntax_uid=attributes.uid(dataset.file_meta, "TransferSyntaxUID"),
            frames=attributes.integer(dataset, "NumberOfFrames") or 1,
            rows=attributes.integer(dataset, "Rows") or 0,
            columns=attributes.integer(dataset, "Columns") or 0,
            bits_stored=attributes.integer(dataset, "BitsStored") or 16,
            pixel_representation=attributes.integer(dataset, "PixelRepresentation") or 0,
            extended_offsets=(offsets.hex(), lengths.hex()) if offsets and lengths else None,
        )

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Build it from what `to_json` gave."""
        offsets = stored["extended_offsets"]
        return cls(**{**stored, "extended_offsets": tuple(offsets) if offsets else None})

    def to_json(self) -> dict[str, Any]:
        """Give a plain dictionary of JSON types."""
        return asdict(self)

    @property
    def frame_bytes(self) -> int:
        """Bytes of one native frame."""
        return 2 * self.rows * self.columns


def native_frames(pixels: StoredPixels) -> Iterator[NDArray[np.uint16]]:
    """Read native frames (PS3.5 section 8.1.1).

    Yields
    ------
    ndarray
        The 16-bit cells, shape (rows, columns), of each frame.

    Raises
    ------
    RefusedError
        SHORT_PIXEL_DATA.
    """
    cells = pixels.rows * pixels.columns
    with Path(pixels.path).open("rb") as file:
        file.seek(pixels.offset)
        for _ in range(pixels.frames):
            frame = np.fromfile(file, dtype="<u2", count=cells)
            if frame.size < cells:
                raise RefusedError(
                    Reason.SHORT_PIXEL_DATA,
                    f"the pixel data of instance {pixels.sop_instance_uid} ends within a frame",
                )
            yield frame.reshape(pixels.rows, pixels.columns)


def compressed_frames(pixels: StoredPixels) -> Iterator[NDArray[np.uint16]]:
    """Decode compressed frames in this process; `decoder` does it in one that may die.

    Yields
    ------
    ndarray
        The 16-bit cells, shape (rows, columns), of each frame.

    Raises
    ------
    RefusedError
        UNDECODABLE_PIXELS, SHORT_PIXEL_DATA, TOO_LARGE (compressed data beyond any image of the
        declared size), or UNSUPPORTED_TRANSFER_SYNTAX.
    ConfigurationError
        If the decoder of a readable transfer syntax is not installed: that is no fault of the
        study's.
    """
    plugin = _plugin(UID(pixels.transfer_syntax_uid))
    path = Path(pixels.path)
    largest = (_LARGEST_EXPANSION * pixels.frame_bytes + _ENVELOPE_BYTES) * pixels.frames
    if path.stat().st_size - pixels.offset > largest:
        raise RefusedError(
            Reason.TOO_LARGE,
            f"compressed pixels of instance {pixels.sop_instance_uid} exceed the native size",
        )
    count = 0
    try:
        with path.open("rb") as file:
            _check_codestreams(file, pixels)
            for frame in _decoded(file, pixels, plugin):
                count += 1
                yield frame
    except (RefusedError, MemoryError):
        raise
    except Exception as error:
        if is_from_system(error):
            raise
        raise _undecodable(pixels, "cannot be decoded") from error
    except BaseException as error:
        # A codec in Rust that panics raises no Exception.
        if isinstance(error, GeneratorExit | KeyboardInterrupt | SystemExit):
            raise
        raise _undecodable(pixels, "makes the decoder panic") from error
    if count < pixels.frames:
        raise RefusedError(
            Reason.SHORT_PIXEL_DATA,
            f"instance {pixels.sop_instance_uid}: {pixels.frames} frames declared, {count} found",
        )


def _plugin(syntax: UID) -> str:
    """Choose the first installed decoder of a transfer syntax."""
    if syntax not in _PLUGINS:
        raise RefusedError(Reason.UNSUPPORTED_TRANSFER_SYNTAX, f"transfer syntax {syntax.name}")
    decoder = get_decoder(syntax)
    for name in _PLUGINS[syntax]:
        if name in decoder.available_plugins:
            return name
    wanted = [line for line in decoder.missing_dependencies if line.startswith(_PLUGINS[syntax])]
    raise ConfigurationError(
        f"no decoder of {syntax.name} is installed; install one of: {'; '.join(wanted)}"
    )


def _check_codestreams(file: BinaryIO, pixels: StoredPixels) -> None:
    """Compare what codestreams declare with the data set: decoders allocate by the codestream."""
    syntax = UID(pixels.transfer_syntax_uid)
    file.seek(pixels.offset)
    found = generate_frames(
        file, number_of_frames=pixels.frames, extended_offsets=_extended_offsets(pixels)
    )
    for frame in islice(found, pixels.frames):
        if not declares(frame, syntax, pixels.rows, pixels.columns):
            raise _undecodable(
                pixels,
                f"does not declare one component of {pixels.rows} x {pixels.columns} 16-bit pixels",
            )
        if not is_whole(frame, syntax):
            raise _undecodable(pixels, "ends before its end marker")


def _decoded(file: BinaryIO, pixels: StoredPixels, plugin: str) -> Iterator[NDArray[np.uint16]]:
    file.seek(pixels.offset)
    arrays = get_decoder(UID(pixels.transfer_syntax_uid)).iter_array(
        file,
        raw=True,
        decoding_plugin=plugin,
        rows=pixels.rows,
        columns=pixels.columns,
        number_of_frames=pixels.frames,
        samples_per_pixel=1,
        photometric_interpretation="MONOCHROME2",
        bits_allocated=16,
        bits_stored=pixels.bits_stored,
        pixel_representation=pixels.pixel_representation,
        pixel_keyword="PixelData",
        extended_offsets=_extended_offsets(pixels),
    )
    for array, _ in islice(arrays, pixels.frames):
        if array.shape != (pixels.rows, pixels.columns) or array.itemsize != 2:
            raise _undecodable(pixels, "decodes to another size than declared")
        yield array.view(np.uint16)


def _extended_offsets(pixels: StoredPixels) -> tuple[bytes, bytes] | None:
    if pixels.extended_offsets is None:
        return None
    offsets, lengths = map(bytes.fromhex, pixels.extended_offsets)
    return offsets, lengths


def _undecodable(pixels: StoredPixels, what: str) -> RefusedError:
    return RefusedError(
        Reason.UNDECODABLE_PIXELS,
        f"{UID(pixels.transfer_syntax_uid).name} of instance {pixels.sop_instance_uid} {what}",
    )
