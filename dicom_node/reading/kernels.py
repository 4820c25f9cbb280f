"""Which reconstruction kernels are meant for the lung: the vendors' names, in one table."""

from __future__ import annotations

import re

# Siemens names are a letter for the body (B, D: filtered back projection; I, J, Bl, Br, Bv:
# iterative), then a sharpness; from 57 on, and every "Bl" (body lung), they are lung kernels.
_SIEMENS = re.compile(r"\b(?P<family>B[lrv]|[BDIJU])(?P<sharpness>\d{2})")
_SIEMENS_SHARP = 57

_NAMES = {
    "GE": re.compile(r"LUNG|BONE|BONEPLUS|EDGE|HD LUNG"),
    "PHILIPS": re.compile(r"L|LUNG|YA|YB|YC|YD"),
    "TOSHIBA": re.compile(r"(FL)?FC(5\d|8\d)|LUNG.*"),
    "CANON": re.compile(r"(FL)?FC(5\d|8\d)|LUNG.*"),
}


def is_lung_kernel(manufacturer: str, kernel: str) -> bool:
    """Tell whether a reconstruction kernel is one for the lung.

    Parameters
    ----------
    manufacturer
        Manufacturer (0008,0070).
    kernel
        Convolution Kernel (0018,1210), as the vendor writes it.

    Returns
    -------
    bool
        False for soft, standard and unknown kernels.
    """
    maker, name = manufacturer.upper(), kernel.strip()
    if "SIEMENS" in maker:
        found = _SIEMENS.search(name)
        return found is not None and (
            found["family"] == "Bl" or int(found["sharpness"]) >= _SIEMENS_SHARP
        )
    pattern = next((p for vendor, p in _NAMES.items() if maker.startswith(vendor)), None)
    if pattern is not None:
        return pattern.fullmatch(name.upper().split("\\")[0]) is not None
    return "LUNG" in name.upper()
