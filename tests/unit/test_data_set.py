"""A data set that arrives in a file, on a disk that is full before its end."""

import errno
import os
import subprocess
from io import BytesIO

import pytest

from dicom_node.receiving.data_set import FiledDataSet, parts_of


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 1 MB; only root may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("a tmpfs cannot be mounted here: it takes root")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_it_comes_back_to_the_byte(tmp_path):
    begun = BytesIO()
    begun.write(b"begun, ")
    data_set = FiledDataSet(tmp_path, begun)
    data_set.write(b"went on")
    assert data_set.tell() == len(b"begun, went on")
    assert b"".join(parts_of(data_set)) == b"begun, went on"
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_when_it_is_read_and_not_before(tiny_disk):
    data_set = FiledDataSet(tiny_disk, BytesIO())
    for _ in range(300):
        # No multiple of a page: the last write fits in part.
        assert data_set.write(bytes(5001)) == 5001
    assert data_set.failure.errno == errno.ENOSPC
    with pytest.raises(OSError, match="No space left"):
        list(parts_of(data_set))
    data_set.close()


def test_a_disk_too_full_to_begin_is_told_at_once(tiny_disk):
    begun = BytesIO(bytes(2 << 20))
    with pytest.raises(OSError, match="No space left"):
        FiledDataSet(tiny_disk, begun)
    begun.close()
