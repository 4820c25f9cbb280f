"""What the three packages never do: run text, load pickles, start shells, name files by tags."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_REPOSITORY = Path(__file__).resolve().parents[2]
_PACKAGES = ("dicom_node", "model", "worker")
_FILES = sorted(path for package in _PACKAGES for path in (_REPOSITORY / package).rglob("*.py"))

_CALLS = {"eval", "exec", "compile", "__import__"}
_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "imp"}
_SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
# Text of a data set: who sends it chooses it.
_TAGS = {
    "AccessionNumber",
    "PatientID",
    "PatientName",
    "SOPInstanceUID",
    "SeriesDescription",
    "SeriesInstanceUID",
    "StudyDescription",
    "StudyInstanceUID",
    "accession_number",
    "affected_sop_instance_uid",
    "calling_ae_title",
    "patient_id",
    "patient_name",
    "series_instance_uid",
    "sop_instance_uid",
    "study_description",
    "study_instance_uid",
}
# The one way from a tag to a name of a file or folder.
_HASHED = {"uid_hash", "sha256", "content_digest"}
_OPENERS = {"open", "mkdir", "rename", "replace", "touch", "unlink", "with_name", "joinpath"}


def test_the_three_packages_are_looked_at():
    assert len(_FILES) > 150


@pytest.mark.parametrize("package", _PACKAGES)
def test_no_code_is_made_of_text_and_no_pickle_or_shell_is_used(package):
    assert [
        f"{path.relative_to(_REPOSITORY)}:{line} {what}"
        for path in _FILES
        if path.relative_to(_REPOSITORY).parts[0] == package
        for line, what in _forbidden(ast.parse(path.read_text()))
    ] == []


@pytest.mark.parametrize("package", _PACKAGES)
def test_no_path_is_made_of_a_tag(package):
    assert [
        f"{path.relative_to(_REPOSITORY)}:{line} {what}"
        for path in _FILES
        if path.relative_to(_REPOSITORY).parts[0] == package
        for line, what in _named_by_tags(ast.parse(path.read_text()))
    ] == []


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("eval(text)", True),
        ("import pickle", True),
        ("from joblib import load", True),
        ("subprocess.run(command, shell=True)", True),
        ("os.system('ls')", True),
        ("np.load(path, allow_pickle=True)", True),
        ("torch.load(path)", True),
        ("re.compile(text)", False),
        ("np.load(path, allow_pickle=False)", False),
        ("subprocess.run(['ls'])", False),
    ],
)
def test_the_search_for_code_of_text_finds_it(code, found):
    assert bool(list(_forbidden(ast.parse(code)))) is found


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("folder / header.study_instance_uid", True),
        ("folder / f'{dataset.PatientID}.dcm'", True),
        ("Path(study_instance_uid)", True),
        ("folder / str(dataset.SOPInstanceUID)", True),
        ("path.with_name(patient_name + '.json')", True),
        ("open(note.calling_ae_title)", True),
        ("folder / uid_hash(study_instance_uid)", False),
        ("folder / f'{uid_hash(sop_instance_uid)}-{digest}.dcm'", False),
        ("folder / str(screening_id)", False),
    ],
)
def test_the_search_for_paths_of_tags_finds_them(code, found):
    assert bool(list(_named_by_tags(ast.parse(code)))) is found


def _forbidden(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            names = []
        for name in names:
            if name.partition(".")[0] in _MODULES:
                yield node.lineno, f"imports {name}"
        if isinstance(node, ast.Call):
            yield from _forbidden_call(node)


def _forbidden_call(node: ast.Call) -> Iterator[tuple[int, str]]:
    called = ast.unparse(node.func)
    if called in _CALLS | _SHELLS or called.endswith(("torch.load", ".load_model")):
        yield node.lineno, f"calls {called}"
    for keyword in node.keywords:
        unsafe = keyword.arg in {"shell", "allow_pickle"}
        if unsafe and not (
            isinstance(keyword.value, ast.Constant) and keyword.value.value is False
        ):
            yield node.lineno, f"calls {called} with {keyword.arg}"


def _named_by_tags(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            named = [node.right]
        elif isinstance(node, ast.Call) and _makes_path(node):
            named = list(node.args)
        else:
            continue
        for part in named:
            if tag := next(_bare_tags(part), None):
                yield node.lineno, f"{tag} in {ast.unparse(node)}"


def _makes_path(node: ast.Call) -> bool:
    if isinstance(node.func, ast.Name):
        return node.func.id in {"Path", "open"}
    return isinstance(node.func, ast.Attribute) and node.func.attr in _OPENERS


def _bare_tags(node: ast.AST) -> Iterator[str]:
    """Yield the tags in an expression that go through no hash."""
    if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in _HASHED:
        return
    if isinstance(node, ast.Name) and node.id in _TAGS:
        yield node.id
    if isinstance(node, ast.Attribute) and node.attr in _TAGS:
        yield node.attr
    for child in ast.iter_child_nodes(node):
        yield from _bare_tags(child)
