"""The composition root: which model version an installation screens with."""

import dataclasses

import pytest

from model.errors import RegistryError
from model.files import file_sha256
from model.registry import Registry
from worker.bootstrap import chosen_model, registry, verify_model
from worker.settings import load_settings


@pytest.fixture
def folder(tmp_path):
    """Folder of an installation with a version higher than any that is shipped."""
    own = tmp_path / "models" / "own"
    own.mkdir(parents=True)
    (own / "weights.npz").write_bytes(b"weights")
    shipped = Registry().get().manifest
    manifest = dataclasses.replace(
        shipped, version="999.0.0", sha256=file_sha256(own / "weights.npz")
    )
    (own / "manifest.json").write_text(manifest.to_json())
    return own.parent


def test_unset_means_the_shipped_version_whatever_else_is_there(folder):
    settings = load_settings(model_dir=folder)
    assert "999.0.0" in {entry.manifest.version for entry in registry(settings).list()}
    assert chosen_model(settings) == Registry().get()
    assert verify_model(settings) == Registry().get()


def test_a_version_of_the_installation_is_used_when_it_is_set(folder):
    title = f"{Registry().get().manifest.name}-999.0.0"
    settings = load_settings(model_dir=folder, model=title)
    assert verify_model(settings).title == title


def test_a_version_that_is_not_there_is_refused():
    with pytest.raises(RegistryError, match="no-such-model"):
        chosen_model(load_settings(model="no-such-model"))
