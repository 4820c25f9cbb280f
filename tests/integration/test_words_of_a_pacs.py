"""What a PACS says in words may name the patient: it is in no log, no page and no row."""

from __future__ import annotations

import pytest
from pydicom import Dataset
from support.command import lungwatch
from support.installation import Installation
from support.marked_study import MARK, MARKS
from support.quick_screening import QuickPredictor
from support.small_ct import write_small_ct

from worker import dispatch
from worker.lifecycle import StudyState


@pytest.mark.parametrize(
    ("status", "state"),
    [(0xA700, StudyState.DELIVERING), (0xC000, StudyState.FAILED)],
)
def test_an_error_comment_is_kept_nowhere(status, state, tmp_path, start_pacs, capfd, caplog):
    comments = []

    def answer(_event) -> Dataset:
        said = Dataset()
        said.Status = status
        said.ErrorComment = f"no room for {MARK}^JOHN 7713177"
        comments.append(said.ErrorComment)
        return said

    given = {
        "data_dir": tmp_path / "data",
        "destinations": f"dimse://PACS@127.0.0.1:{start_pacs(answer)}?commitment=none",
    }
    site = Installation(
        given["data_dir"],
        destinations=given["destinations"],
        minimum_slices=3,
        minimum_coverage_mm=1,
    )
    site.receive(write_small_ct(tmp_path / "ct"))
    site.screen(QuickPredictor())
    ((_, round_),) = dispatch.deliverer(site.settings, site.database).rounds()
    round_()
    assert comments
    study = site.study()
    assert study.state is state
    assert f"status 0x{status:04X}" in study.screenings[0].deliveries[0].last_error

    pages = [
        lungwatch("studies", *command, **given) for command in (("list",), ("show", "1", "--json"))
    ]
    assert f"status 0x{status:04X}" in pages[-1].stdout
    said = [text for page in pages for text in (page.stdout, page.stderr)]
    said += [*capfd.readouterr(), caplog.text]
    assert [found for text in said for found in MARKS.findall(text)] == []
    database = b"".join(path.read_bytes() for path in given["data_dir"].glob("lungwatch.db*"))
    assert MARK.encode() not in database
