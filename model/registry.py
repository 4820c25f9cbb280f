"""Model versions on disk: weights, a manifest that names their SHA-256, and a model card."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.config import NetworkConfig
from model.errors import ConfigError, ModelIntegrityError, RegistryError
from model.files import file_sha256
from model.pooling import Calibration, Pooling
from model.prediction import ModelVersion

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SHIPPED_ROOT = Path(__file__).parent / "weights"
MANIFEST_FILE = "manifest.json"
WEIGHTS_FILE = "weights.npz"
CARD_FILE = "MODEL_CARD.md"
TRAINING_DATA_FILE = "training_data.json"
NOT_LISTED = "none"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_WAY_OUT = "remove or reinstall this folder"
NOT_EVALUATED = "Not evaluated on whole studies."


@dataclass(frozen=True)
class Manifest:
    """What belongs to a set of weights, so that they give the same results everywhere.

    Attributes
    ----------
    name, version, sha256
        Identity; `sha256` is that of the weights file.
    network
        Shape of the network.
    calibration, pooling
        From raw slice probabilities to a study's.
    operating_point
        Threshold on the study's calibrated probability.
    lesion_threshold
        Threshold on the pixels of the segmentation.
    licence
        What may be done with the weights.
    data
        What they were trained and validated on.
    training_command
        The command that made them.
    caution
        One sentence on how far the network can be trusted, for whoever chooses or runs it.
    slice_operating_point
        Threshold on the calibrated probability of a single slice or figure; None in versions
        that were released before there was one.
    data_sha256
        SHA-256 of the data manifest whose validation part chose calibration, pooling and
        operating points; empty where that was not recorded.
    training_data_sha256
        SHA-256 of the list of what the network has seen, `TRAINING_DATA_FILE`; `NOT_LISTED` where
        the version does not say it, empty in versions released before it was recorded.
    precision
        Floating-point type the weights are stored in: ``float32``, or ``float16`` where they were
        rounded.
    """

    name: str
    version: str
    sha256: str
    network: NetworkConfig
    calibration: Calibration
    pooling: Pooling
    operating_point: float
    lesion_threshold: float
    licence: str
    data: str
    training_command: str = ""
    caution: str = NOT_EVALUATED
    slice_operating_point: float | None = None
    data_sha256: str = ""
    training_data_sha256: str = ""
    precision: str = "float32"

    def to_json(self) -> str:
        """Return the manifest as JSON."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read `to_json`'s text.

        Raises
        ------
        RegistryError
            If something is missing or does not fit.
        """
        try:
            values: dict[str, Any] = json.loads(text)
            for name in ("name", "version", "sha256", "licence", "data", "caution"):
                if not isinstance(values.get(name, ""), str):
                    raise TypeError(f"{name} is no text")  # noqa: TRY301 - one way to refuse it
            return cls(
                **values
                | {
                    "network": NetworkConfig.from_dict(values["network"]),
                    "calibration": Calibration(**values["calibration"]),
                    "pooling": Pooling(**values["pooling"]),
                }
            )
        except (AttributeError, KeyError, TypeError, ValueError, ConfigError) as error:
            raise RegistryError(f"manifest does not fit: {error}") from error


@dataclass(frozen=True)
class RegistryEntry:
    """One version in the registry: its manifest and its folder."""

    manifest: Manifest
    folder: Path = field(compare=False)

    @property
    def model_version(self) -> ModelVersion:
        """Identity as it is put into results."""
        return ModelVersion(self.manifest.name, self.manifest.version, self.manifest.sha256)

    @property
    def title(self) -> str:
        """Name and version, as typed on the command line."""
        return f"{self.manifest.name}-{self.manifest.version}"

    @property
    def manifest_sha256(self) -> str:
        """SHA-256 of the manifest file: calibration and thresholds belong to a version, too."""
        return file_sha256(self.folder / MANIFEST_FILE)

    @property
    def model_card(self) -> str:
        """Text of the model card, empty if there is none."""
        card = self.folder / CARD_FILE
        return card.read_text() if card.is_file() else ""

    def verified_weights(self) -> Path:
        """Return the path of the weights after checking their SHA-256.

        Raises
        ------
        RegistryError
            If the weights are not there.
        ModelIntegrityError
            If they are not the ones the manifest names.
        """
        path = self.folder / WEIGHTS_FILE
        try:
            found = file_sha256(path)
        except OSError as error:
            raise RegistryError(f"{self.title}: {path} cannot be read: {error.strerror}") from error
        if found != self.manifest.sha256:
            raise ModelIntegrityError(
                f"{self.title}: {path} has sha256 {found}, its manifest says "
                f"{self.manifest.sha256}; install the version again"
            )
        return path


@dataclass(frozen=True)
class DamagedVersion:
    """A version folder whose manifest cannot be read.

    Attributes
    ----------
    folder
        The folder.
    problem
        What is wrong with its manifest, and the way out.
    """

    folder: Path
    problem: str


class Registry:
    """Every version below some roots; the shipped ones come first.

    Parameters
    ----------
    roots
        Folders of a site that hold version folders, beside the shipped one.
    shipped
        Folder of the versions that come with the package.
    """

    def __init__(self, roots: Iterable[Path] = (), shipped: Path = SHIPPED_ROOT) -> None:
        self.roots = (shipped, *roots)

    def list(self) -> tuple[RegistryEntry, ...]:
        """Return every version that can be read, by root, name and version.

        One damaged folder takes no other version with it; `damaged` tells those left out.
        """
        return tuple(each for each in self._scan() if isinstance(each, RegistryEntry))

    def damaged(self) -> tuple[DamagedVersion, ...]:
        """Return the version folders whose manifest cannot be read."""
        return tuple(each for each in self._scan() if isinstance(each, DamagedVersion))

    def _scan(self) -> Iterator[RegistryEntry | DamagedVersion]:
        for root in self.roots:
            # A release that was cut off leaves a folder whose name starts with a dot.
            for path in sorted(root.glob(f"[!.]*/{MANIFEST_FILE}")):
                try:
                    yield read_entry(path.parent)
                except RegistryError as error:
                    yield DamagedVersion(path.parent, f"{error}; {_WAY_OUT}")

    def get(self, which: str = "") -> RegistryEntry:
        """Return the version with this name-version, name or beginning of a SHA-256.

        Parameters
        ----------
        which
            For a name without version, or nothing at all, the highest version is meant.

        Raises
        ------
        RegistryError
            If there is none, or there are several; the message names damaged folders.
        """
        entries = self.list()
        found = [entry for entry in entries if entry.title == which]
        if not found:
            named = [entry for entry in entries if which in {"", entry.manifest.name}]
            found = [max(named, key=_version_key)] if named else []
        if not found and len(which) >= 8:
            found = [entry for entry in entries if entry.manifest.sha256.startswith(which)]
        if not found:
            known = ", ".join(entry.title for entry in entries) or "none"
            damaged = "".join(f"; damaged: {each.problem}" for each in self.damaged())
            raise RegistryError(
                f"no model {which or 'at all'} in the registry; it has {known}{damaged}"
            )
        # Versions of equal weights differ too: calibration and thresholds are their own.
        if any(entry != found[0] for entry in found):
            folders = ", ".join(str(entry.folder) for entry in found)
            raise RegistryError(f"{which} is ambiguous: {folders}; {_told_apart(found)}")
        return found[0]

    def find(self, model: ModelVersion, manifest_sha256: str | None = None) -> RegistryEntry | None:
        """Return the version with exactly this name, number and sha256, or None.

        Parameters
        ----------
        model
            The version.
        manifest_sha256
            Of several folders that hold it the one with this manifest is meant, if there is one.
        """
        found = [entry for entry in self.list() if entry.model_version == model]
        if manifest_sha256 is not None and len(found) > 1:
            found.sort(key=lambda entry: entry.manifest_sha256 != manifest_sha256)
        return found[0] if found else None

    def newest_shipped(self) -> RegistryEntry:
        """Return the highest version that comes with the package.

        Raises
        ------
        RegistryError
            If there is none.
        """
        return Registry(shipped=self.roots[0]).get()


def read_entry(folder: Path) -> RegistryEntry:
    """Read one version folder.

    Raises
    ------
    RegistryError
        If its manifest cannot be read; the message names it.
    """
    path = folder / MANIFEST_FILE
    try:
        return RegistryEntry(Manifest.from_json(path.read_text("utf-8")), folder)
    except OSError as error:
        raise RegistryError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RegistryError(f"{path}: cannot be read: it is not UTF-8") from error
    except RegistryError as error:
        raise RegistryError(f"{path}: {error}") from error


def require_name(what: str, value: str) -> None:
    """Check that a name or version can be a part of a folder's name and leads nowhere else.

    Raises
    ------
    RegistryError
        If it cannot.
    """
    if not _NAME.fullmatch(value):
        raise RegistryError(
            f"{what} {value!r}: take letters, digits, dots, hyphens and underscores, and a letter "
            "or digit first"
        )


def _told_apart(found: list[RegistryEntry]) -> str:
    """Say how to name one of several versions."""
    if len({entry.title for entry in found}) > 1:
        return "name it by its name-version"
    if len({entry.manifest.sha256 for entry in found}) > 1:
        return "name it by its sha256"
    return "their manifests differ, leave only the one that is meant"


def _version_key(entry: RegistryEntry) -> tuple[tuple[int, str], ...]:
    parts = entry.manifest.version.split(".")
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in parts)
