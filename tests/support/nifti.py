"""NIfTI-1 files written field by field."""

import gzip
import struct

import numpy as np

_TYPES = {"uint8": 2, "int16": 4, "float32": 16}


def write_nifti(path, values, directions=None):
    """Write (x, y, slices), with the s-form's 3 x 3 matrix or without orientation."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *values.shape, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, _TYPES[str(values.dtype)], 8 * values.itemsize)
    struct.pack_into("<8f", header, 76, 1, 1, 1, 1, 0, 0, 0, 0)
    struct.pack_into("<3f", header, 108, 352, 1, 0)
    if directions is not None:
        struct.pack_into("<h", header, 254, 1)
        rows = np.column_stack([directions, np.zeros(3)])
        struct.pack_into("<12f", header, 280, *rows.ravel())
    header[344:348] = b"n+1\0"
    data = bytes(header) + values.tobytes(order="F")
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
