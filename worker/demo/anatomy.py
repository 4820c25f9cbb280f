"""A synthetic chest, slice by slice, from ellipses in patient coordinates.

Coordinates are those of DICOM (PS3.3 section C.7.6.2.1.1) in millimetres: x to the left, y to
posterior, z to the head; z = 0 lies at the lung bases. Values are Hounsfield units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.float32]
    Mask = NDArray[np.bool_]

AIR, LUNG, FAT, BLOOD, MUSCLE, LIVER, MARROW, CORTEX = -1000, -860, -100, 40, 55, 65, 180, 650
APEX_MM = 260.0
CARINA_MM = 165.0
_RIB_SPACING_MM = 27.0


@dataclass(frozen=True, slots=True)
class Plane:
    """The pixel centres of one axial slice.

    Attributes
    ----------
    x, y
        Coordinates in mm, of shapes (1, columns) and (rows, 1).
    z
        Height of the slice in mm.
    """

    x: Image
    y: Image
    z: float

    def ellipse(self, x: float, y: float, half_width: float, half_depth: float) -> Image:
        """Normalised distance from the centre of an ellipse: below 1 inside.

        Parameters
        ----------
        x, y, half_width, half_depth
            Centre and half axes in mm.
        """
        return np.sqrt(((self.x - x) / half_width) ** 2 + ((self.y - y) / half_depth) ** 2)

    def inside(self, x: float, y: float, half_width: float, half_depth: float) -> Mask:
        """Whether pixels lie in an ellipse."""
        return self.ellipse(x, y, half_width, half_depth) < 1

    def in_ball(
        self, centre: tuple[float, float, float], half_axes: tuple[float, float, float]
    ) -> Mask:
        """Whether pixels lie in an ellipsoid; centre and half axes along x, y and z in mm."""
        height = (self.z - centre[2]) / half_axes[2]
        if abs(height) >= 1:
            return np.zeros((self.y.size, self.x.size), dtype=bool)
        scale = float(np.sqrt(1 - height**2))
        return self.inside(centre[0], centre[1], half_axes[0] * scale, half_axes[1] * scale)


def lungs(plane: Plane) -> tuple[Mask, Mask]:
    """Right and left lung of one slice, without the mediastinum and above the diaphragm.

    Parameters
    ----------
    plane
        The slice.
    """
    toward_apex = plane.z / APEX_MM
    if not 0 <= toward_apex < 1:
        nothing = np.zeros((plane.y.size, plane.x.size), dtype=bool)
        return nothing, nothing
    taper = float((1 - toward_apex**3) ** 0.5)
    cavity = plane.inside(0, 6, 136, 93) & ~_mediastinum(plane)
    width, depth = 76 * (0.3 + 0.7 * taper), 96 * (0.2 + 0.8 * taper)
    aside, behind = 66 * (0.6 + 0.4 * taper), 8 + 14 * (1 - taper)
    return (
        cavity & plane.inside(-aside, behind, width, depth) & ~_diaphragm(plane, -72, 78),
        cavity & plane.inside(aside, behind, width, depth) & ~_diaphragm(plane, 74, 64),
    )


def chest(plane: Plane) -> Image:
    """Everything but what is inside the lungs: air, wall, bones, mediastinum and upper abdomen.

    Parameters
    ----------
    plane
        The slice.
    """
    image = np.full((plane.y.size, plane.x.size), AIR, dtype=np.float32)
    shoulder = 1 + 0.12 * float(np.clip((plane.z - 190) / 80, 0, 1))
    trunk = plane.ellipse(0, 6, 172 * shoulder, 124)
    image[trunk < 1] = FAT
    image[plane.ellipse(0, 8, 155 * shoulder, 108) < 1] = MUSCLE
    _paint_shoulders_and_table(image, plane)
    _paint_abdomen(image, plane)
    _paint_ribs(image, plane)
    for lung in lungs(plane):
        image[lung] = LUNG
    _paint_mediastinum(image, plane)
    _paint_spine_and_sternum(image, plane)
    return image


def _diaphragm(plane: Plane, x: float, height: float) -> Mask:
    return plane.in_ball((x, 0, -14), (74, 96, height + 14))


def _mediastinum(plane: Plane) -> Mask:
    narrowing = 1 - 0.35 * float(np.clip(plane.z / APEX_MM, 0, 1))
    core = plane.inside(0, -10, 30 * narrowing, 96)
    spine = plane.inside(0, 78, 34, 44)
    return core | spine | _heart(plane) | plane.inside(22, 42, 16, 16)


def _heart(plane: Plane) -> Mask:
    return plane.in_ball((28, -28, 62), (66, 52, 66))


def _paint_shoulders_and_table(image: Image, plane: Plane) -> None:
    table = np.abs(plane.ellipse(0, -210, 480, 352) - 1) < 0.008
    image[table & (np.abs(plane.x) < 180)] = -250
    rise = float(np.clip((plane.z - 120) / 60, 0, 1))
    for side in (-1, 1):
        # Fat between the muscles, which a real chest has everywhere.
        image[plane.inside(side * 112, 70, 30, 6)] = FAT
        image[plane.inside(side * 84, -86, 34, 4)] = FAT
        image[plane.inside(side * 138, -10, 6, 36)] = FAT
        if rise > 0:
            axilla = plane.inside(side * 140, -8, 16 * rise, 44 * rise)
            image[axilla] = FAT
            blade = np.abs(plane.ellipse(side * 40, 10, 116, 88) - 1) < 0.028
            image[blade & (side * plane.x > 70) & (plane.y > 40) & (plane.y < 40 + 45 * rise)] = (
                CORTEX - 150
            )


def _paint_abdomen(image: Image, plane: Plane) -> None:
    image[_diaphragm(plane, -72, 78)] = LIVER
    image[_diaphragm(plane, 74, 64)] = MUSCLE
    image[plane.in_ball((70, -30, 5), (38, 34, 40))] = -300
    image[plane.in_ball((88, 40, 0), (34, 34, 42))] = BLOOD + 15


def _paint_ribs(image: Image, plane: Plane) -> None:
    ring = plane.ellipse(0, 7, 141, 98)
    # A rib leaves the spine high and runs down to the front: a slice cuts several, obliquely.
    angle = np.arctan2(plane.y - 7, np.abs(plane.x))
    phase = np.mod(plane.z + 62 * angle, _RIB_SPACING_MM) - _RIB_SPACING_MM / 2
    across = np.hypot((ring - 1) * 118 / 6.0, phase / 7.5)
    lateral = np.abs(plane.x) > 24
    image[(across < 1) & lateral] = CORTEX
    image[(across < 0.62) & lateral] = MARROW


def _paint_mediastinum(image: Image, plane: Plane) -> None:
    if 0 <= plane.z < APEX_MM:
        core = plane.inside(0, -12, 27, 82) & (plane.y < 60)
        image[core] = FAT + 40
    image[_heart(plane)] = BLOOD
    image[plane.inside(22, 42, 13, 13)] = BLOOD
    if plane.z > 110:
        image[plane.inside(-16, -38, 9, 9)] = BLOOD
    if 90 < plane.z < CARINA_MM + 15:
        image[plane.inside(-4, -32, 16, 16)] = BLOOD
        image[plane.inside(22, -20, 14, 13)] = BLOOD
    image[plane.inside(6, 38, 7, 5)] = BLOOD
    _paint_airways(image, plane)


def _paint_airways(image: Image, plane: Plane) -> None:
    if plane.z >= CARINA_MM:
        openings = [(0.0, 8.5)]
    else:
        below = CARINA_MM - plane.z
        openings = [(-0.55 * below - 6, 6.5), (0.7 * below + 6, 6.0)] if below < 45 else []
    for x, radius in openings:
        image[plane.inside(x, 12, radius + 1.8, radius + 1.8)] = MUSCLE
        image[plane.inside(x, 12, radius, radius)] = AIR + 10


def _paint_spine_and_sternum(image: Image, plane: Plane) -> None:
    disc = np.mod(plane.z, 26) < 5
    image[plane.inside(0, 66, 20, 16)] = MUSCLE + 40 if disc else CORTEX - 200
    if not disc:
        image[plane.inside(0, 66, 17, 13)] = MARROW
    for x in (-24, 24):
        image[plane.inside(x, 88, 18, 6)] = CORTEX - 150
    image[plane.inside(0, 108, 4, 18)] = CORTEX - 200
    image[plane.inside(0, 92, 12, 11)] = CORTEX - 200
    image[plane.inside(0, 91, 9, 8)] = 20
    if plane.z > 40:
        image[plane.inside(0, -96, 20, 7)] = CORTEX - 250
        image[plane.inside(0, -96, 17, 4.5)] = MARROW
