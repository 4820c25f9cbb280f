"""A real CT series with lesions nobody found: labelled ellipsoids put into its lungs."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage

from dicom_node.objects.provenance import Equipment, ResultContext, ResultIdentity
from dicom_node.reading.ct_series import CtSeries, SliceReference
from model.prediction import Finding, Laterality, LesionMask, ModelVersion, Prediction
from model.volume import CtVolume

MODEL = ModelVersion("lungwatch-multitask", "0.1.0", hashlib.sha256(b"weights").hexdigest())
CREATED_AT = datetime(2026, 3, 14, 9, 26, 53)  # noqa: DTZ001, the PACS has no time zone


@dataclass(frozen=True)
class Ellipsoid:
    """Centre as a fraction of the volume's edges; radii in voxels (slices, rows, columns)."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    laterality: Laterality
    component_count: int = 1


ONE_LESION = (Ellipsoid((0.5, 0.45, 0.3), (4, 22, 14), Laterality.RIGHT),)
THREE_LESIONS = (
    *ONE_LESION,
    Ellipsoid((0.55, 0.55, 0.72), (3, 12, 16), Laterality.LEFT),
    Ellipsoid((0.4, 0.6, 0.3), (1.5, 5, 7), Laterality.BILATERAL, component_count=3),
)


def read_single_frame_series(folder: Path) -> CtSeries:
    """Read a series of one slice for each file, independently of the reader under test."""
    sources = [pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))]
    sources.sort(key=lambda source: float(source.ImagePositionPatient[2]))
    hounsfield = np.stack(
        [
            source.pixel_array * float(source.RescaleSlope) + float(source.RescaleIntercept)
            for source in sources
        ]
    ).astype(np.int16)
    for source in sources:
        del source.PixelData
    first, last = sources[0], sources[-1]
    row, column = (float(edge) for edge in first.PixelSpacing)
    origin, end = (np.array(source.ImagePositionPatient, float) for source in (first, last))
    step = (end - origin) / (len(sources) - 1)
    orientation = np.array(first.ImageOrientationPatient, float).reshape(2, 3)
    affine = np.eye(4)
    affine[:3] = np.column_stack([step, orientation[1] * row, orientation[0] * column, origin])
    return CtSeries(
        volume=CtVolume(hounsfield, (float(np.linalg.norm(step)), row, column), affine),
        slices=tuple(
            SliceReference(str(source.SOPClassUID), str(source.SOPInstanceUID))
            for source in sources
        ),
        sources=tuple(sources),
        digest=hashlib.sha256(first.SeriesInstanceUID.encode()).hexdigest(),
    )


def predict(
    series: CtSeries, lesions: tuple[Ellipsoid, ...], *, probability: float = 0.87
) -> Prediction:
    """State lesions on a series as a network would."""
    labels = np.zeros(series.volume.shape, np.uint8)
    for number, lesion in enumerate(lesions, start=1):
        labels[_inside(lesion, series.volume.shape)] = number
    margin = series.volume.shape[0] // 10
    screened = tuple(range(margin, series.volume.shape[0] - margin))
    return Prediction(
        model=MODEL,
        covid_probability=probability,
        operating_point=0.5,
        screened_slices=screened,
        slice_probabilities=tuple(probability for _ in screened),
        lesion_mask=LesionMask(labels),
        findings=tuple(
            _measure(series, labels, number, lesion)
            for number, lesion in enumerate(lesions, start=1)
        ),
        lung_volume_ml=4321.5,
    )


def context_of(series: CtSeries, **changes: object) -> ResultContext:
    """Context of a first result, with changes."""
    defaults = {
        "identity": ResultIdentity(series.digest, MODEL.sha256, "pipeline"),
        "model": MODEL,
        "created_at": CREATED_AT,
        "equipment": Equipment(software_version="0.1.0", station_name="NODE1"),
    }
    return ResultContext(**(defaults | changes))


def _inside(lesion: Ellipsoid, shape: tuple[int, int, int]) -> np.ndarray:
    grid = np.ogrid[tuple(slice(size) for size in shape)]
    distance = sum(
        ((axis - centre * size) / radius) ** 2
        for axis, centre, size, radius in zip(grid, lesion.centre, shape, lesion.radii, strict=True)
    )
    return distance <= 1


def _measure(series: CtSeries, labels: np.ndarray, number: int, lesion: Ellipsoid) -> Finding:
    mask = labels == number
    areas = mask.sum(axis=(1, 2))
    return Finding(
        segment_number=number,
        voxel_count=int(mask.sum()),
        volume_ml=float(mask.sum() * series.volume.voxel_volume_ml),
        slice_indices=tuple(int(index) for index in np.flatnonzero(areas)),
        largest_slice_index=int(areas.argmax()),
        laterality=lesion.laterality,
        mean_hu=float(series.volume.hounsfield[mask].mean()),
        maximum_diameter_mm=2 * max(lesion.radii[1:]) * series.volume.spacing_mm[1],
        component_count=lesion.component_count,
    )


def tiny_series(*, multi_frame: bool = False) -> CtSeries:
    """Build a small chest in memory: 12 slices of 64 x 96 voxels, as little header as CT needs.

    The frames of the multi-frame variant run from head to foot, against the volume's slices.
    """
    slices, rows, columns = 12, 64, 96
    spacing = (5.0, 1.5, 1.25)
    affine = np.diag([spacing[2], spacing[1], spacing[0], 1.0])[:, [2, 1, 0, 3]]
    affine[:3, 3] = (-60.0, -48.0, -30.0)
    hounsfield = np.full((slices, rows, columns), -1000, np.int16)
    body = Ellipsoid((0.5, 0.5, 0.5), (40, 26, 44), Laterality.BILATERAL)
    hounsfield[_inside(body, hounsfield.shape)] = 40
    for column in (0.3, 0.7):
        lung = Ellipsoid((0.5, 0.5, column), (8, 16, 14), Laterality.BILATERAL)
        hounsfield[_inside(lung, hounsfield.shape)] = -850
    volume = CtVolume(hounsfield, spacing, affine)
    if multi_frame:
        references = tuple(
            SliceReference(str(EnhancedCTImageStorage), "1.2.3.9", slices - index)
            for index in range(slices)
        )
        return CtSeries(volume, references, (_header(EnhancedCTImageStorage, "1.2.3.9"),), "d")
    sources = []
    for index in range(slices):
        source = _header(CTImageStorage, f"1.2.3.{100 + index}")
        source.FrameOfReferenceUID = "1.2.3.7"
        source.ImagePositionPatient = [float(edge) for edge in affine[:3] @ (index, 0, 0, 1)]
        source.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        source.PixelSpacing = [spacing[1], spacing[2]]
        sources.append(source)
    references = tuple(
        SliceReference(str(source.SOPClassUID), str(source.SOPInstanceUID)) for source in sources
    )
    return CtSeries(volume, references, tuple(sources), "d")


TINY_LESIONS = (
    Ellipsoid((0.5, 0.5, 0.3), (2, 6, 5), Laterality.RIGHT),
    Ellipsoid((0.4, 0.5, 0.7), (1, 4, 5), Laterality.LEFT),
)


def _header(sop_class_uid: str, sop_instance_uid: str) -> pydicom.Dataset:
    header = pydicom.Dataset()
    header.SOPClassUID = sop_class_uid
    header.SOPInstanceUID = sop_instance_uid
    header.StudyInstanceUID = "1.2.3.1"
    header.SeriesInstanceUID = "1.2.3.2"
    return header
