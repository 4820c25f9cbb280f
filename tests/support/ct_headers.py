"""Headers of an ideal chest CT series, to be spoilt by the tests one fact at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from dicom_node.reading.frames import FrameHeader
from dicom_node.reading.header import InstanceHeader

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def make_frames(
    heights: list[float], *, orientation: tuple[float, ...] = AXIAL, lateral_step: float = 0.0
) -> list[FrameHeader]:
    """Frames at the given heights above the origin; `lateral_step` shears the stack."""
    return [
        FrameHeader(
            position=(-170.0, -160.0 + lateral_step * k, height),
            orientation=orientation,
            pixel_spacing=(0.7, 0.7),
            slice_thickness=2.0,
            rescale_slope=1.0,
            rescale_intercept=-1024.0,
        )
        for k, height in enumerate(heights)
    ]


def make_series(
    series: str = "1.2.3.4", slices: int = 100, spacing: float = 2.0, **facts: Any
) -> list[InstanceHeader]:
    """One single-frame instance for each slice, `facts` laid over every one of them."""
    frame_facts = {name: facts.pop(name) for name in list(facts) if hasattr(FrameHeader, name)}
    frames = make_frames([spacing * k for k in range(slices)])
    ideal = {
        "sop_class_uid": CTImageStorage,
        "study_instance_uid": "1.2.3",
        "transfer_syntax_uid": ExplicitVRLittleEndian,
        "modality": "CT",
        "image_type": ("ORIGINAL", "PRIMARY", "AXIAL"),
        "body_part_examined": "CHEST",
        "manufacturer": "SIEMENS",
        "convolution_kernel": "B30f",
        "series_number": 2,
        "rows": 512,
        "columns": 512,
        "pixel_data_complete": True,
    }
    return [
        InstanceHeader(
            **{
                **ideal,
                "series_instance_uid": series,
                "sop_instance_uid": f"{series}.{k + 1}",
                "instance_number": k + 1,
                "frames": (replace(frame, **frame_facts),),
                **facts,
            }
        )
        for k, frame in enumerate(frames)
    ]
