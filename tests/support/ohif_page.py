"""What a radiologist does in OHIF, and what OHIF then holds."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from support.ohif import Browser

_SEGMENTS = """() => {
  const [segmentation] = window.services.segmentationService.getSegmentations();
  return Object.values(segmentation.segments).map(segment => segment.label);
}"""
_LABELLED_PIXELS = """() => {
  const [segmentation] = window.services.segmentationService.getSegmentations();
  const { imageIds, referencedImageIds } = segmentation.representationData.Labelmap;
  return imageIds.map((id, position) => {
    const labels = window.cornerstone.cache.getImage(id).voxelManager.getScalarData();
    const pixels = [];
    labels.forEach((label, index) => label && pixels.push([index, label]));
    return [referencedImageIds[position], pixels];
  });
}"""
_MEASUREMENTS = """() => {
  const sets = window.services.displaySetService.getActiveDisplaySets();
  const { measurements } = sets.find(set => set.Modality === 'SR');
  return measurements.map(each => [each.TrackingIdentifier, each.loaded]);
}"""


class OhifPage:
    """A study open in the viewer."""

    def __init__(self, browser: Browser, root: str, study_instance_uid: str, series: int) -> None:
        self._page = browser.page
        self._page.goto(f"{root}/viewer?StudyInstanceUIDs={study_instance_uid}")
        self._page.wait_for_function(
            "count => window.services?.displaySetService?.getActiveDisplaySets()?.length === count",
            arg=series,
        )
        self._page.get_by_text("Confirm and hide").click()

    def open_segmentation(self) -> None:
        self._open_series("SEG")
        self._page.get_by_role("button", name="Yes").click()
        self._page.locator("[data-cy=panelSegmentation-btn]").click()

    def open_report(self) -> None:
        self._open_series("SR")
        self._page.locator("[data-cy=viewport-pane] svg.svg-layer text").first.wait_for()

    def jump_to_segment(self, label: str) -> None:
        """Show the middle of a segment in the lung window."""
        self._page.get_by_text(label).first.click()
        self._page.locator("[data-cy=viewport-pane]").hover()
        self._page.keyboard.press("2")
        self._page.get_by_text("-600").wait_for()

    def segment_labels(self) -> list[str]:
        return self._page.evaluate(_SEGMENTS)

    def labelled_pixels(self) -> dict[str, dict[int, int]]:
        """For each SOP Instance UID: flat index of a pixel -> its segment number."""
        answer = self._page.evaluate(_LABELLED_PIXELS)
        return {
            re.search(r"/instances/([0-9.]+)", image_id)[1]: dict(pixels)
            for image_id, pixels in answer
        }

    def voxel_counts(self) -> Counter[int]:
        """Segment number -> number of its voxels."""
        return Counter(
            segment for pixels in self.labelled_pixels().values() for segment in pixels.values()
        )

    def measurements(self) -> dict[str, bool]:
        """Tracking identifier -> whether the viewer could place it on an image."""
        return dict(self._page.evaluate(_MEASUREMENTS))

    def drawn_text(self) -> str:
        """What is written over the image."""
        return "\n".join(
            self._page.locator("[data-cy=viewport-pane] svg.svg-layer tspan").all_text_contents()
        )

    def _open_series(self, modality: str) -> None:
        self._page.get_by_text(modality, exact=True).first.dblclick()
