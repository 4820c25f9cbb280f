"""The 100 slices with drawn lesions (medicalsegmentation.com), as images or as NIfTI volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.data.manifest import ManifestRow
from model.data.nifti import read_nifti
from model.data.pictures import FIGURE_SUFFIXES
from model.errors import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = "covid-semiseg"
_VOLUMES = (("tr_im.nii.gz", "tr_mask.nii.gz"), ("tr_im.nii", "tr_mask.nii"))
_IMAGE_FOLDERS = ("img", "imgs", "Imgs", "image", "images")
_MASK_FOLDERS = ("mask", "masks", "GT")


def read_hundred_slices(folder: Path) -> list[ManifestRow]:
    """List the slices, all with COVID-19, patients unknown, paths relative to the folder.

    Parameters
    ----------
    folder
        Either with the published volumes ``tr_im.nii.gz`` (Hounsfield units) and
        ``tr_mask.nii.gz``; or with image folders, ``img`` beside ``mask`` with the same names
        (``Imgs`` beside ``GT`` in COVID-SemiSeg), which are stored with x and y swapped.

    Raises
    ------
    DatasetError
        If neither is there, a mask is missing, or the volumes differ in size.
    """
    for image, mask in _VOLUMES:
        if (folder / image).exists():
            return _volume_rows(folder, image, mask)
    rows = []
    for home in sorted(path for path in folder.rglob("*") if path.name in _IMAGE_FOLDERS):
        masks = next((home.parent / m for m in _MASK_FOLDERS if (home.parent / m).is_dir()), None)
        if masks is None:
            continue
        images = [path for path in home.iterdir() if path.suffix.lower() in FIGURE_SUFFIXES]
        images.sort(key=lambda each: (len(each.name), each.name))
        rows += [_image_row(folder, path, masks) for path in images]
    if not rows:
        raise DatasetError(
            f"{folder}: holds neither tr_im.nii.gz nor a folder img beside a folder mask"
        )
    return rows


def _volume_rows(folder: Path, image: str, mask: str) -> list[ManifestRow]:
    if not (folder / mask).exists():
        raise DatasetError(f"{folder / image}: its masks {mask} are missing; put them beside it")
    sizes = [read_nifti(folder / name).values.shape for name in (image, mask)]
    if sizes[0] != sizes[1]:
        raise DatasetError(f"{folder / mask}: has the size {sizes[1]}, its images {sizes[0]}")
    return [
        ManifestRow(
            f"{image}#{index}",
            covid=True,
            mask=f"{mask}#{index}",
            source=SOURCE,
            cut_at_lungs=True,
        )
        for index in range(sizes[0][2])
    ]


def _image_row(folder: Path, image: Path, masks: Path) -> ManifestRow:
    mask = next(
        (
            masks / f"{image.stem}{suffix}"
            for suffix in FIGURE_SUFFIXES
            if (masks / f"{image.stem}{suffix}").exists()
        ),
        None,
    )
    if mask is None:
        raise DatasetError(f"{image}: has no mask {image.stem}.png in {masks}; add it")
    return ManifestRow(
        path=image.relative_to(folder).as_posix(),
        covid=True,
        mask=mask.relative_to(folder).as_posix(),
        source=SOURCE,
        transposed=True,
        cut_at_lungs=True,
    )
