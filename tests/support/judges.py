"""Independent judges of the objects we write: one function each, giving what it finds."""

import gzip
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from support.services import require, skip_or_fail

_PIXELMED_JAR = Path("/usr/share/java/pixelmed.jar")
# The validator's style sheets are larger than what Java allows XPath by default.
_XPATH_LIMITS = [
    f"-Djdk.xml.xpath{limit}=0" for limit in ("ExprGrpLimit", "ExprOpLimit", "TotalOpLimit")
]
# DCMTK 3.6.7 reads UTF-8 and converts it, only its check of lengths leaves such texts out.
_UNCHECKED = "W: The VR checker does not support this Specific Character Set: ISO_IR 192"
# PixelMed compiles its rules anew each time: ten seconds on a free machine, minutes on a busy one.
_SECONDS = 600


@dataclass(frozen=True, eq=False)
class SegmentImage:
    """A segment as dcmqi gives it back.

    `voxels` has shape (slices, rows, columns), `origin` the patient coordinates of its first
    voxel in mm (LPS), `spacing` the edges along (slices, rows, columns).
    """

    voxels: np.ndarray
    origin: np.ndarray
    spacing: np.ndarray


@dataclass(frozen=True)
class SrVerdict:
    """What PixelMed says of a report: the root template it found, and its errors."""

    template: str
    errors: list[str]


def dciodvfy_errors(path: Path) -> list[str]:
    """Error lines of dicom3tools' validator."""
    verdict = _run([of_this_environment("dciodvfy"), str(path)])
    return [line for line in verdict.stderr.splitlines() if line.startswith("Error")]


def dcmqi_segments(path: Path, folder: Path) -> list[SegmentImage]:
    """Segments of a SEG in their order, as dcmqi's segimage2itkimage reads them."""
    _run(
        [
            of_this_environment("segimage2itkimage"),
            *("--inputDICOM", str(path)),
            *("--outputDirectory", str(folder)),
            *("--outputType", "nrrd"),
        ],
        check=True,
    )
    files = sorted(folder.glob("*.nrrd"), key=lambda file: int(file.stem))
    return [_read_nrrd(file) for file in files]


def dcmqi_groups(path: Path, folder: Path) -> list[dict[str, Any]]:
    """Measurement groups of a report, as dcmqi's tid1500reader reads them."""
    output = folder / "groups.json"
    reader = of_this_environment("tid1500reader")
    _run([reader, "--inputDICOM", str(path), "--outputMetadata", str(output)], check=True)
    groups: list[dict[str, Any]] = json.loads(output.read_text())["Measurements"]
    return groups


def dcmtk_complaints(tool: str, *arguments: str) -> list[str]:
    """Warnings, errors and a failing exit of a DCMTK tool that reads an object."""
    verdict = _run([str(require(tool, "dcmtk")), *arguments])
    complaints = [
        line
        for line in verdict.stderr.splitlines()
        if line.startswith(("W: ", "E: ", "F: ")) and line != _UNCHECKED
    ]
    return [*complaints, f"exit {verdict.returncode}"] if verdict.returncode else complaints


def pixelmed_verdict(path: Path) -> SrVerdict:
    """Verdict of PixelMed's DicomSRValidator; it takes some ten seconds."""
    if not _PIXELMED_JAR.is_file():
        skip_or_fail("PixelMed is not installed: apt-get install pixelmed-apps")
    java = str(require("java", "default-jre-headless"))
    validator = "com.pixelmed.validate.DicomSRValidator"
    verdict = _run([java, *_XPATH_LIMITS, "-cp", str(_PIXELMED_JAR), validator, str(path)])
    lines = (verdict.stdout + verdict.stderr).splitlines()
    return SrVerdict(
        template=next((line for line in lines if line.startswith("Found Root Template")), ""),
        errors=[line for line in lines if line.startswith(("Error", "Exception", "java."))],
    )


def of_this_environment(tool: str) -> str:
    path = Path(sys.executable).parent / tool
    if not path.is_file():
        skip_or_fail(f"{tool} is not installed: pip install 'lungwatch[dev]'")
    return str(path)


def _run(command: list[str], *, check: bool = False) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=_SECONDS, check=check
    )


def _read_nrrd(path: Path) -> SegmentImage:
    """Read the one kind of NRRD that dcmqi writes (teem.sourceforge.net/nrrd/format.html)."""
    header, _, data = path.read_bytes().partition(b"\n\n")
    fields = dict(line.split(": ", 1) for line in header.decode().splitlines() if ": " in line)
    assert (fields["type"], fields["encoding"]) == ("short", "gzip")
    assert fields["space"] == "left-posterior-superior"
    columns, rows, slices = (int(size) for size in fields["sizes"].split())
    directions = [_vector(text) for text in fields["space directions"].split(" ")]
    return SegmentImage(
        voxels=np.frombuffer(gzip.decompress(data), "<i2").reshape(slices, rows, columns),
        origin=_vector(fields["space origin"]),
        spacing=np.array([np.linalg.norm(direction) for direction in directions[::-1]]),
    )


def _vector(text: str) -> np.ndarray:
    return np.array([float(part) for part in text.strip("()").split(",")])
