"""An installation whose only study is screened, delivered and promised: retention may begin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.installation import Installation
from support.quick_screening import QuickPredictor
from support.small_ct import write_small_ct

from worker import dispatch
from worker.lifecycle import StudyState

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def delivered_site(folder: Path, pacs_port: int) -> Installation:
    """Make one, of which everything may go at once; `files` are those of its study."""
    site = Installation(
        folder / "data",
        destinations=f"dimse://PACS@127.0.0.1:{pacs_port}?commitment=none",
        minimum_slices=3,
        minimum_coverage_mm=1,
        retention_days=1e-10,
        retention_free_mb=0,
    )
    site.files = write_small_ct(folder / "ct")
    deliver_study(site, site.files)
    assert site.study().state is StudyState.COMPLETED
    return site


def deliver_study(site: Installation, files: Iterable[Path]) -> None:
    """Take a study from its files to the PACS."""
    site.receive(files)
    site.screen(QuickPredictor())
    site.deliver()


def files_of(site: Installation) -> list[Path]:
    """List the images and results on the disk."""
    folders = (site.settings.spool_dir / "studies", site.settings.results_dir)
    return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


def clean(site: Installation, **changes: object) -> int:
    """Do one round of retention, with some settings changed."""
    settings = site.settings.model_copy(update=changes)
    return dispatch.retention(settings, site.database).run_once()
