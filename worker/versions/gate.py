"""The gate before a promotion: two versions measured on a test set, and what speaks against one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from model.comparison import compare
from model.errors import ModelError
from model.evaluation.evaluate import Origin
from model.evaluation.subject import evaluate_subject, subject_of_version
from worker.errors import PromotionError
from worker.quiet_tensorflow import import_tensorflow_quietly

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from model.comparison import Comparison, Margins
    from model.data.dataset import Sample, SliceReader
    from model.evaluation.subject import Evaluated
    from model.registry import RegistryEntry
    from worker.versions.locked_test_set import TestSet

    Report = Callable[[str, float | None], None]


@dataclass(frozen=True, slots=True)
class PromotionRules:
    """What an installation sets.

    Attributes
    ----------
    pin
        Version named by ``LUNGWATCH_MODEL``, which no promotion can replace.
    locked_test_set
        Manifest that promotions are judged on.
    pseudonym_key
        Key of the names that patients have in reviewed data; None, or no such file: there are none.
    """

    pin: str | None
    locked_test_set: Path | None
    pseudonym_key: Path | None = None


class PromotionRefusedError(PromotionError):
    """The gate's refusal, with its reasons and the comparison, if there is one."""

    WAY_OUT = (
        "Train or choose another version, or promote it all the same with "
        '--override "reason", which is recorded'
    )

    def __init__(self, title: str, reasons: tuple[str, ...], comparison: Comparison | None) -> None:
        listed = "; ".join(reasons)
        super().__init__(f"{title} is not promoted: {listed}. {self.WAY_OUT}")
        self.title, self.comparison = title, comparison


class Gate:
    """Measures versions and says what speaks against a candidate.

    Parameters
    ----------
    margins
        How much lower a figure of a candidate may be.
    read_slice
        Reads the DICOM images of a test set.
    load
        Loads a version as a worker does.
    """

    def __init__(
        self,
        margins: Margins,
        read_slice: SliceReader,
        load: Callable[[RegistryEntry], object],
    ) -> None:
        self._margins, self._read_slice, self._load = margins, read_slice, load

    def require_screens(self, candidate: RegistryEntry) -> None:
        """Refuse a version that a worker could not load, before anybody relies on it.

        Raises
        ------
        RegistryError, ModelIntegrityError
            If its weights are not there, or not what its manifest says.
        PromotionError
            If the network cannot be built, or has no branch for what a screening needs.
        """
        candidate.verified_weights()
        try:
            self._load(candidate)
        except Exception as error:
            raise PromotionError(
                f"{candidate.title} cannot screen: {type(error).__name__}: {error}"
            ) from error

    def judge(
        self,
        test_set: TestSet,
        current: RegistryEntry | None,
        candidate: RegistryEntry,
        report: Report,
    ) -> tuple[Comparison | None, tuple[str, ...]]:
        """Compare, as far as that is possible, and tell why the candidate may not pass."""
        if current is None:
            return None, ("the version in use is damaged or gone, so nothing can be compared",)
        try:
            comparison = self.measure(test_set, current, candidate, report)
        except ModelError as error:
            return None, (f"the versions could not be compared: {error}",)
        return comparison, comparison.reasons

    def measure(
        self,
        test_set: TestSet,
        current: RegistryEntry,
        candidate: RegistryEntry,
        report: Report,
    ) -> Comparison:
        """Measure both versions on the same images; see `promotion.Promotions.compare`."""
        import_tensorflow_quietly()
        origin = Origin(test_set.manifest.path.name, test_set.manifest.sha256, "test")
        loaded: dict[int, tuple[Sample, ...]] = {}

        def measured(entry: RegistryEntry) -> Evaluated:
            size = entry.manifest.network.input_size
            if size not in loaded:
                loaded[size] = test_set.load(
                    size, self._read_slice, lambda done: report("reading the test set", done)
                )
            return evaluate_subject(
                subject_of_version(entry),
                loaded[size],
                origin,
                report=lambda done: report(entry.title, done),
            )

        before, after = measured(current), measured(candidate)
        objection = test_set.seen_by(candidate, after.samples)
        notes = [test_set.seen_by(current, before.samples), test_set.unnamed]
        return compare(
            before,
            after,
            self._margins,
            [objection] if objection else [],
            [note for note in notes if note],
        )
