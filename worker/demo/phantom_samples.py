"""Slices of the synthetic chest as training samples: pictures of them may be shown anywhere."""

from __future__ import annotations

from model.data.dataset import Sample, Split
from model.lungs import find_lungs
from model.preprocessing import Geometry, apply_window, slice_to_input
from worker.demo.phantom import Phantom, build_phantom


def phantom_samples(input_size: int, phantom: Phantom | None = None) -> tuple[Sample, ...]:
    """Return the slices with lung of a synthetic chest, by the way every CT series takes.

    Parameters
    ----------
    input_size
        Rows and columns of the network's input.
    phantom
        The chest; None: that of seed 0.

    Returns
    -------
    tuple of Sample
        The slice with most lesion first. Slices without a lesion count as without COVID-19.
    """
    phantom = phantom or build_phantom()
    lungs = find_lungs(phantom.volume)
    samples = []
    for index, box in zip(lungs.screened_slices, lungs.boxes(), strict=True):
        unit = apply_window(phantom.volume.hounsfield[index])
        geometry = Geometry((unit.shape[0], unit.shape[1]), box, input_size)
        lesions = phantom.lesions[index] > 0
        samples.append(
            Sample(
                path=f"phantom#{index}",
                source="phantom",
                split=Split.TRAIN,
                patient="phantom",
                covid=bool(lesions.any()),
                image=slice_to_input(unit, geometry),
                mask=geometry.mask_to_input(lesions),
                hounsfield=True,
            )
        )
    samples.sort(key=lambda each: 0 if each.mask is None else -int(each.mask.sum()))
    return tuple(samples)
