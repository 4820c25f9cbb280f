"""What of `model` the DICOM edge may import is said once, and covers every module."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOMAIN = {"errors", "prediction", "volume"}


def test_the_edge_is_forbidden_every_module_of_model_but_the_domain_objects():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    (edge,) = [each for each in contracts if each["name"].startswith("Of model, dicom_node")]
    model = ROOT / "model"
    modules = {path.stem for path in model.glob("[!_]*.py")}
    modules |= {path.parent.name for path in model.glob("*/__init__.py")}
    assert set(edge["forbidden_modules"]) == {f"model.{name}" for name in modules - DOMAIN}
