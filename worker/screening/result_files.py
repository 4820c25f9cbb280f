"""A result as files in a folder, for people without a PACS."""

from __future__ import annotations

import json
from io import BytesIO
from typing import TYPE_CHECKING, Any

from PIL import Image
from pydicom import dcmread

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KINDS = ("seg", "sr", "summary")
_OVERLAY, _RESULT = "overlay.png", "result.json"


def write_result_files(
    folder: Path, objects: Mapping[str, bytes], document: Mapping[str, Any]
) -> list[str]:
    """Write ``seg.dcm``, ``sr.dcm``, ``summary.dcm``, ``overlay.png`` and ``result.json``.

    Files of an earlier result are removed first: what is there afterwards belongs together.

    Parameters
    ----------
    folder
        Made when absent.
    objects
        DICOM files by kind; a result without lesions has no ``seg``.
    document
        Content of ``result.json``.

    Returns
    -------
    list of str
        Names of the files written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*(f"{kind}.dcm" for kind in KINDS), _OVERLAY, _RESULT):
        (folder / name).unlink(missing_ok=True)
    files = {f"{kind}.dcm": objects[kind] for kind in KINDS if kind in objects}
    if "summary" in objects:
        files[_OVERLAY] = overlay_png(objects["summary"])
    files[_RESULT] = json.dumps(document, indent=2, ensure_ascii=False).encode()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return list(files)


def overlay_png(summary: bytes) -> bytes:
    """Render the summary image as PNG.

    Parameters
    ----------
    summary
        The secondary capture object as a DICOM file.
    """
    pixels = dcmread(BytesIO(summary)).pixel_array
    picture = BytesIO()
    Image.fromarray(pixels).save(picture, format="PNG", optimize=True)
    return picture.getvalue()
