"""DICOM files to headers, and the files of one CT series to its volume in Hounsfield units."""

from __future__ import annotations

import hashlib
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dicom_node.errors import RefusedError
from dicom_node.reading.assembly import canonical_order
from dicom_node.reading.ct_series import CtSeries, SliceReference
from dicom_node.reading.decoder import Decoder, shared_decoder
from dicom_node.reading.decoding import NATIVE_TRANSFER_SYNTAXES, StoredPixels, native_frames
from dicom_node.reading.header import InstanceHeader, read_dataset, read_header
from dicom_node.reading.integrity import check_content
from dicom_node.reading.limits import ReadLimits
from dicom_node.reading.pixels import PixelEncoding, hounsfield_table
from dicom_node.reading.qualification import (
    check_pixels,
    check_transfer_syntax,
    slice_instances,
    stack_series,
)
from dicom_node.reading.series import select_series
from dicom_node.reasons import Reason
from model.volume import CtVolume

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom import Dataset

    from dicom_node.reading.geometry import FrameStack

# Share of the time that headers take, the rest is pixels.
_HEADER_SHARE = 0.4


@dataclass(frozen=True, slots=True)
class RefusedFile:
    """A file that is no instance that could be screened."""

    path: Path
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class FolderContent:
    """What a set of files holds.

    Attributes
    ----------
    instances
        Path and header of each readable instance, in the order of the paths.
    refused
        The other files, but for DICOMDIR indices.
    """

    instances: tuple[tuple[Path, InstanceHeader], ...]
    refused: tuple[RefusedFile, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Instance:
    """One instance of the series: its data set without pixels, and where these are."""

    path: Path
    dataset: Dataset
    pixels_at: int
    header: InstanceHeader

    def frames(
        self, decoder: Decoder
    ) -> Generator[tuple[NDArray[np.int16], NDArray[np.uint16]], None, None]:
        """Give the table of Hounsfield units and the cells of each frame."""
        encoding = PixelEncoding.from_dataset(self.dataset)
        pixels = StoredPixels.of(self.path, self.dataset, self.pixels_at)
        native = pixels.transfer_syntax_uid in NATIVE_TRANSFER_SYNTAXES
        # No codec, no danger: what native pixels take is known before they are read.
        cells = native_frames(pixels) if native else decoder.frames(pixels)
        for frame, values in zip(self.header.frames, cells, strict=True):
            yield hounsfield_table(encoding, frame.rescale_slope, frame.rescale_intercept), values


def read_headers(
    paths: Sequence[Path], progress: Callable[[float], None] | None = None
) -> FolderContent:
    """Read the headers of files and of everything below folders.

    Parameters
    ----------
    paths
        Files and folders; symbolic links to folders are not followed.
    progress
        Called with the share that is done, 0 to 1.

    Returns
    -------
    FolderContent
        Every file is accounted for, but for DICOMDIR indices.
    """
    files = sorted({file for path in paths for file in _files(path)})
    instances: list[tuple[Path, InstanceHeader]] = []
    refused: list[RefusedFile] = []
    for done, path in enumerate(files, start=1):
        try:
            instances.append((path, read_header(path)))
        except RefusedError as error:
            if error.reason is not Reason.NOT_CT:
                refused.append(RefusedFile(path, error.reason, error.detail))
        if progress:
            progress(done / len(files))
    return FolderContent(tuple(instances), tuple(refused))


def read_ct_series(
    paths: Sequence[Path],
    series_instance_uid: str | None = None,
    limits: ReadLimits | None = None,
    progress: Callable[[float], None] | None = None,
    decoder: Decoder | None = None,
    digests: Mapping[Path, str] | None = None,
) -> CtSeries:
    """Read one CT series, single-frame or multi-frame, native or losslessly compressed.

    Parameters
    ----------
    paths
        Its files, in any order; files of other series may be among them.
    series_instance_uid
        Which series; None where the files hold a single one, or for the one that
        `select_series` chooses with its default policy.
    limits
        Ceilings, checked before anything of that size is allocated.
    progress
        Called with the share that is done, 0 to 1.
    decoder
        Decodes compressed pixels; None for the one of this process.
    digests
        Content digest of each file as it was received; None where nobody took one.

    Returns
    -------
    CtSeries
        Independent of the order of the files. Frames that repeat another one exactly are left
        out. Where frames of reference differ between slices, the sources all get that of the
        first slice (docs/decisions/0003-frame-of-reference-per-slice.md).

    Raises
    ------
    RefusedError
        With the reason why the series cannot be read.
    """
    report = progress or (lambda _: None)
    if digests is not None:
        for path in paths:
            check_content(path, digests[path])
    limits = limits or ReadLimits()
    instances = _load(paths, series_instance_uid, limits, lambda done: report(_HEADER_SHARE * done))
    headers = [instance.header for instance in instances]
    check_transfer_syntax(headers)
    check_pixels(headers, limits)
    stack = stack_series(headers)
    volume = CtVolume(
        hounsfield=_fill(
            instances,
            stack,
            decoder or shared_decoder(),
            limits.seconds,
            lambda done: report(_HEADER_SHARE + (1 - _HEADER_SHARE) * done),
        ),
        spacing_mm=stack.spacing_mm,
        affine=stack.affine,
    )
    slices = _references(headers, stack)
    return CtSeries(
        volume=volume,
        slices=slices,
        sources=_sources(instances, slices),
        digest=_digest(volume, slices),
    )


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from (file for file in path.rglob("*") if file.is_file())
    else:
        yield path


def _load(
    paths: Sequence[Path],
    series_instance_uid: str | None,
    limits: ReadLimits,
    report: Callable[[float], None],
) -> list[_Instance]:
    """Read the instances of the wanted series, in an order that does not depend on the paths."""
    found: list[_Instance] = []
    elements = value_bytes = 0
    for done, path in enumerate(paths, start=1):
        dataset, extent, structure = read_dataset(path)
        header = InstanceHeader.from_dataset(
            dataset, pixel_data_complete=extent is not None and extent.complete
        )
        if series_instance_uid in (None, header.series_instance_uid):
            found.append(_Instance(path, dataset, extent.offset if extent else 0, header))
            elements += structure.elements
            value_bytes += structure.value_bytes
            limits.check_parsed(elements, value_bytes)
        report(done / len(paths))
    wanted = series_instance_uid or _only_series([instance.header for instance in found])
    found = [i for i in found if i.header.series_instance_uid == wanted]
    found.sort(key=lambda instance: canonical_order(instance.header))
    slices = {id(header) for header in slice_instances([i.header for i in found])}
    return [instance for instance in found if id(instance.header) in slices]


def _only_series(headers: Sequence[InstanceHeader]) -> str | None:
    series = {header.series_instance_uid for header in headers}
    if len(series) == 1:
        return series.pop()
    selection = select_series(headers)
    if selection.reason is not None:
        raise RefusedError(selection.reason, selection.detail)
    return selection.chosen


def _fill(
    instances: Sequence[_Instance],
    stack: FrameStack,
    decoder: Decoder,
    seconds: float,
    report: Callable[[float], None],
) -> NDArray[np.int16]:
    """Decode every frame into its slice; frames at one position must be equal."""
    first = instances[0].header
    volume = np.empty((len(stack.order), first.rows or 0, first.columns or 0), np.int16)
    slice_of = {frame: k for k, frame in enumerate(stack.order)}
    repeats = {frame: k for k, frame in stack.duplicates}
    pending: list[tuple[int, NDArray[np.int16]]] = []
    deadline = time.monotonic() + seconds
    frame = 0
    for done, instance in enumerate(instances, start=1):
        # Closed at once whatever happens: half-told frames hold the decoder.
        with closing(instance.frames(decoder)) as frames:
            for table, cells in frames:
                if frame in slice_of:
                    # Clipping changes nothing in a full table; without it numpy buffers the output.
                    np.take(table, cells, out=volume[slice_of[frame]], mode="clip")
                else:
                    pending.append((repeats[frame], table[cells]))
                frame += 1
                if time.monotonic() > deadline:
                    raise RefusedError(
                        Reason.DECODER_FAILED,
                        f"its first {frame} frames took more than {seconds:g} seconds",
                    )
        report(done / len(instances))
    for k, hounsfield in pending:
        if not np.array_equal(volume[k], hounsfield):
            raise RefusedError(
                Reason.CONFLICTING_DUPLICATES, f"two different images at the place of slice {k + 1}"
            )
    return volume


def _references(headers: Sequence[InstanceHeader], stack: FrameStack) -> tuple[SliceReference, ...]:
    frames = [
        SliceReference(
            header.sop_class_uid,
            header.sop_instance_uid,
            number if header.is_multi_frame else None,
        )
        for header in headers
        for number in range(1, len(header.frames) + 1)
    ]
    return tuple(frames[i] for i in stack.order)


def _sources(
    instances: Sequence[_Instance], slices: Sequence[SliceReference]
) -> tuple[Dataset, ...]:
    """Give each instance that a slice refers to once, by first reference, in one frame."""
    datasets = {i.header.sop_instance_uid: i.dataset for i in reversed(instances)}
    sources = tuple(datasets[uid] for uid in dict.fromkeys(s.sop_instance_uid for s in slices))
    frame_of_reference = sources[0].get("FrameOfReferenceUID")
    for dataset in sources:
        if frame_of_reference and dataset.get("FrameOfReferenceUID") != frame_of_reference:
            dataset.FrameOfReferenceUID = frame_of_reference
    return sources


def _digest(volume: CtVolume, slices: Sequence[SliceReference]) -> str:
    """Identify a series by its instances, geometry and Hounsfield units, whatever their coding."""
    digest = hashlib.sha256()
    for reference in slices:
        digest.update(f"{reference.sop_instance_uid} {reference.frame_number}\n".encode())
    # A micrometre absorbs what decimal strings of different length do to the last bits; adding
    # zero turns a negative zero into a positive one.
    digest.update((np.round(volume.affine, 6) + 0.0).astype("<f8").tobytes())
    digest.update(repr(volume.shape).encode())
    digest.update(np.ascontiguousarray(volume.hounsfield, dtype="<i2").data)
    return digest.hexdigest()
