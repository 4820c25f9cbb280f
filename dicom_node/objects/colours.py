"""One colour for each lesion, the same in the segmentation and in the summary image."""

from __future__ import annotations

# Bright, far apart for colour-blind readers too, and none of them grey on a grey CT
# (after Okabe and Ito, "Color Universal Design", lightened for a dark background).
_PALETTE: tuple[tuple[int, int, int], ...] = (
    (255, 176, 0),
    (86, 196, 255),
    (255, 105, 97),
    (0, 214, 143),
    (240, 228, 66),
    (224, 130, 205),
    (64, 224, 224),
    (190, 160, 255),
)


def lesion_colour(segment_number: int) -> tuple[int, int, int]:
    """Red, green and blue (0 to 255) of a lesion; the palette repeats after eight lesions."""
    return _PALETTE[(segment_number - 1) % len(_PALETTE)]
