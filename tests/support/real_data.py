"""Where the real data of the tests lie."""

from __future__ import annotations

import os
from pathlib import Path

from support.services import skip_or_fail

_REPOSITORY = Path(__file__).resolve().parents[2]


def real_data() -> Path:
    """Give LUNGWATCH_TEST_DATA, or shared/data beside the repository."""
    given = os.environ.get("LUNGWATCH_TEST_DATA")
    folder = Path(given) if given else _REPOSITORY.parent / "shared" / "data"
    if not (folder / "MANIFEST.csv").is_file():
        skip_or_fail(f"no test data in {folder}: set LUNGWATCH_TEST_DATA to its folder")
    return folder
