import re
import runpy
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import typer.main

from dicom_node.reasons import Reason
from dicom_node.receiving.refusals import EdgeReason
from model.registry import Registry
from worker.cli.main import app
from worker.cli.reference import PAGES
from worker.lifecycle import Progress, StudyState
from worker.settings import PREFIX, Settings, secret_variables

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PROSE = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def commands(group=None, path="lungwatch"):
    group = group or typer.main.get_command(app)
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, f"{path} {name}")


@pytest.mark.parametrize("name", PAGES)
def test_generated_pages_are_current(name):
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), "run `make docs`"


def test_a_stale_page_is_told(tmp_path):
    for name, page in PAGES.items():
        (tmp_path / name).write_text(page(), encoding="utf-8")
    check = [sys.executable, "-m", "worker.cli.reference", "--check", str(tmp_path)]
    assert subprocess.run(check, check=False, cwd=ROOT).returncode == 0
    (tmp_path / "cli.md").write_text("old", encoding="utf-8")
    assert subprocess.run(check, check=False, cwd=ROOT, capture_output=True).returncode == 1


@pytest.mark.parametrize(("path", "command"), list(commands()), ids=str)
def test_every_command_and_option_is_documented(path, command):
    section = (DOCS / "cli.md").read_text().split(f"## `{path}`\n")[1].split("\n## ")[0]
    assert command.help
    for parameter in command.params:
        assert max(parameter.opts, key=len) in section
        assert parameter.help, f"{path} {parameter.name} says nothing of itself"


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented(name):
    assert Settings.model_fields[name].description
    assert f"`{PREFIX}{name.upper()}`" in (DOCS / "settings.md").read_text()


@pytest.mark.parametrize("code", [*StudyState, *Progress, *Reason, *EdgeReason])
def test_every_state_and_reason_is_documented(code):
    assert f"| `{code.value}` |" in (DOCS / "reasons.md").read_text()


@pytest.mark.parametrize("page", PROSE, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_the_project_resolve(page):
    targets = [link.split("#")[0] for link in LINK.findall(page.read_text())]
    local = [target for target in targets if target and "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PROSE, ids=lambda page: str(page.relative_to(ROOT)))
def test_settings_named_in_prose_exist(page):
    named = set(re.findall(rf"{PREFIX}([A-Z][A-Z_]+[A-Z])", page.read_text()))
    tests = {"FUZZ_EXAMPLES", "PYTHON", "TEST_DATA"}
    known = {name.upper() for name in Settings.model_fields} | tests
    known |= {f"{name.upper()}_FILE" for name in secret_variables()}
    assert named - known == set()


@pytest.mark.parametrize("page", PROSE, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_named_in_prose_exist(page):
    known = {path for path, _ in commands()}
    named = re.findall(r"lungwatch ((?:studies|db|model|audit) [a-z-]+)", page.read_text())
    assert {f"lungwatch {words}" for words in named} - known == set()


def test_readme_opens_with_the_two_commands_and_then_a_picture():
    text = (ROOT / "README.md").read_text()
    demo, test, picture = (text.index(part) for part in ("make demo", "make test", "!["))
    assert demo < test < picture
    assert len(text[:picture].splitlines()) <= 8


def test_readme_routes_orthanc_as_the_script_of_the_containers_does():
    script = (ROOT / "docker" / "orthanc" / "route-stable-studies.lua").read_text()
    function = script[script.index("function OnStableStudy") :]
    assert textwrap.indent(function, "    ") in (ROOT / "README.md").read_text()


def test_every_decision_says_context_decision_and_consequences():
    for page in (DOCS / "decisions").glob("*.md"):
        headings = re.findall(r"^## (.+)$", page.read_text(), re.MULTILINE)
        assert headings == ["Context", "Decision", "Consequences"], page.name


def test_every_decision_has_a_numbered_title_and_a_status():
    for page in (DOCS / "decisions").glob("[0-9]*.md"):
        title, _, status = page.read_text().splitlines()[:3]
        assert title.startswith(f"# {page.name[:4]}: "), page.name
        assert re.fullmatch(r"\*Status: (proposed|accepted|superseded by \d{4})\.\*", status), (
            page.name
        )


def test_every_page_is_reached_from_the_index():
    reached, waiting = set(), [DOCS / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        targets = [
            (page.parent / link.split("#")[0]).resolve() for link in LINK.findall(page.read_text())
        ]
        for target in targets:
            waiting += sorted(target.glob("*.md")) if target.is_dir() else []
            waiting += [target] if target.suffix == ".md" else []
    assert sorted(set(DOCS.rglob("*.md")) - reached) == []


def test_readme_and_results_page_speak_of_the_shipped_network():
    manifest = Registry().get().manifest
    readme = re.sub(r"[\s>]+", " ", (ROOT / "README.md").read_text())
    assert manifest.caution in readme
    assert manifest.sha256 in (DOCS / "results" / "series.md").read_text()
    assert "](docs/results/series.md)" in readme


@pytest.mark.parametrize("page", PROSE, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_retrained_version_in_prose_descends_from_the_shipped_one(page):
    named = re.findall(r"model promote (lungwatch-\S+)", page.read_text())
    assert set(named) <= {f"{Registry().get().title}.1"}


def test_remarks_stay_for_the_weights_they_were_written_for():
    bench = runpy.run_path(str(ROOT / "bench" / "series_check.py"))
    page = (DOCS / "results" / "series.md").read_text()
    kept = bench["remarks_of"](page, Registry().get().manifest.sha256)
    assert kept
    assert page.endswith(kept)
    assert "dropped" in bench["remarks_of"](page, "0" * 64)
    assert bench["remarks_of"]("", "0" * 64) == ""
