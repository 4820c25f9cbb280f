"""The vendors' kernel names."""

from __future__ import annotations

import pytest

from dicom_node.reading.kernels import is_lung_kernel


@pytest.mark.parametrize(
    ("manufacturer", "kernel", "lung"),
    [
        ("SIEMENS", "B60f", True),
        ("SIEMENS", "B80s", True),
        ("SIEMENS", "D40s", False),
        ("SIEMENS", "B30f", False),
        ("SIEMENS", "59 .21.B50s", False),
        ("Siemens Healthineers", "Bl57f\\3", True),
        ("SIEMENS", "Bl56d", True),
        ("SIEMENS", "Br64f\\3", True),
        ("SIEMENS", "Br40d", False),
        ("SIEMENS", "I70f\\3", True),
        ("GE MEDICAL SYSTEMS", "LUNG", True),
        ("GE MEDICAL SYSTEMS", "BONEPLUS", True),
        ("GE MEDICAL SYSTEMS", "STANDARD", False),
        ("GE MEDICAL SYSTEMS", "SOFT", False),
        ("Philips", "L", True),
        ("Philips", "YC", True),
        ("Philips", "B", False),
        ("Philips", "UB", False),
        ("TOSHIBA", "FC51", True),
        ("CANON_MEC", "FC85", True),
        ("TOSHIBA", "FC08", False),
        ("", "", False),
        ("Unheard Of", "Lung Sharp", True),
    ],
)
def test_lung_kernels(manufacturer, kernel, lung):
    assert is_lung_kernel(manufacturer, kernel) is lung
