"""The composition root: which model version an installation screens with."""

import dataclasses

import pytest

from model.errors import RegistryError
from model.files import file_sha256
from model.registry import Registry
from worker.bootstrap import check_before_start, chosen_model, registry, verify_model
from worker.db.engine import make_engine
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


@pytest.mark.parametrize("before", [None, 0o755, 0o700])
def test_a_service_closes_its_data_folder_for_other_users(tmp_path, before):
    folder = tmp_path / "data"
    if before is not None:
        folder.mkdir()
        folder.chmod(before)
    check_before_start(load_settings(data_dir=folder), embedded=True)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_for_several_users_is_left_to_them(tmp_path):
    tmp_path.chmod(0o1777)
    check_before_start(load_settings(data_dir=tmp_path), embedded=True)
    assert tmp_path.stat().st_mode & 0o7777 == 0o1777


def test_a_database_is_made_in_a_folder_of_its_own_user(tmp_path):
    make_engine(f"sqlite:///{tmp_path / 'data' / 'lungwatch.db'}")
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
