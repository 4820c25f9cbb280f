"""A small chest CT on disk: the in-memory series of `synthetic_result` as files."""

from pathlib import Path

from support.synthetic_result import tiny_series

from dicom_node.pseudonymous_slices import Pseudonym, encode_slice


def write_small_ct(folder: Path, study: str = "study") -> list[Path]:
    """Write 12 slices of 64 x 96 voxels as CT Image Storage files."""
    folder.mkdir(parents=True, exist_ok=True)
    volume = tiny_series().volume
    paths = []
    for index in range(volume.shape[0]):
        path = folder / f"{index:02d}.dcm"
        path.write_bytes(encode_slice(volume, index, Pseudonym("patient", study)))
        paths.append(path)
    return paths
