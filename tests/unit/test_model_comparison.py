"""The promotion gate's rule, on outputs made for the purpose: no network is run."""

from dataclasses import replace

import numpy as np
import pytest

from model.comparison import METRICS, Verdict, compare, parse_margins
from model.data.dataset import Sample, Split
from model.errors import ConfigError, EvaluationError
from model.evaluation.decision import Decision
from model.evaluation.evaluate import Origin, measure
from model.evaluation.evaluation import ModelFacts
from model.evaluation.slice_model import SliceOutputs
from model.evaluation.subject import Evaluated

MARGINS = parse_margins([f"{metric}=0.02" for metric in METRICS])
SIZE = 8


def figure(source, number, *, covid, mask=False):
    drawn = np.zeros((SIZE, SIZE), bool)
    drawn[2:6, 2:6] = True
    return Sample(
        path=f"{source}/{covid}/{number}.png",
        source=source,
        split=Split.TEST,
        patient=f"{source}:{covid} {number}",
        covid=covid,
        image=np.zeros((SIZE, SIZE), np.float32),
        mask=drawn if mask else None,
    )


def figures(source="a", count=40, *, masks=True):
    return tuple(
        figure(source, number, covid=covid, mask=covid and masks)
        for covid in (True, False)
        for number in range(count)
    )


def evaluated(samples, missed=(), alarms=(), shift=0, *, tasks=("segmentation", "classification")):
    """Evaluate a network that errs on these numbers and draws its lesions `shift` columns off."""
    wrong = {True: set(missed), False: set(alarms)}
    said = []
    for sample in samples:
        source, _, number = sample.path.removesuffix(".png").split("/")
        errs = (source, int(number)) in wrong[sample.covid] or int(number) in wrong[sample.covid]
        said.append(0.9 if sample.covid is not errs else 0.1)
    lesions = np.zeros((len(samples), SIZE, SIZE), bool)
    lesions[:, 2:6, 2 + shift : 6 + shift] = True
    outputs = SliceOutputs(
        np.array(said, np.float32) if "classification" in tasks else None,
        lesions if "segmentation" in tasks else None,
    )
    facts = ModelFacts("net", "f" * 64, tasks, SIZE)
    evaluation = measure(samples, outputs, Decision(), facts, Origin("m.csv", "s", "test"))
    return Evaluated(evaluation, samples, outputs, Decision())


def found(comparison, name, source="overall"):
    (difference,) = [
        each for each in comparison.differences if (each.name, each.source) == (name, source)
    ]
    return difference


def test_the_same_figures_pass_with_no_doubt():
    samples = figures()
    comparison = compare(evaluated(samples, [1]), evaluated(samples, [1]), MARGINS)
    assert comparison.passed
    for name in ("sensitivity", "specificity", "dice", "auc_within_sources"):
        difference = found(comparison, name)
        assert difference.difference == 0
        assert difference.interval == (0, 0)
        assert difference.verdict is Verdict.NOT_WORSE


def test_a_better_candidate_passes_and_a_worse_one_is_refused_figure_by_figure():
    samples = figures()
    better, worse = evaluated(samples), evaluated(samples, missed=range(6), shift=1)
    assert compare(worse, better, MARGINS).passed
    comparison = compare(better, worse, MARGINS)
    assert not comparison.passed
    refused = {
        (each.name, each.source) for each in comparison.differences if each.verdict is Verdict.WORSE
    }
    assert ("sensitivity", "overall") in refused
    assert ("sensitivity", "a") in refused
    assert ("dice", "overall") in refused
    assert ("specificity", "overall") not in refused
    assert found(comparison, "sensitivity").difference == pytest.approx(-6 / 40)
    assert "sensitivity of overall: 0.850 instead of 1.000" in " ".join(comparison.reasons)


def test_the_interval_is_paired():
    """Both err on the same many images: alone their figures are vague, their difference is not."""
    samples = figures()
    comparison = compare(evaluated(samples, range(20)), evaluated(samples, range(21)), MARGINS)
    low, high = found(comparison, "sensitivity").interval
    assert high == 0
    assert low > -0.1


def test_a_loss_within_the_margin_passes_but_is_called_uncertain():
    samples = figures(count=100)
    comparison = compare(evaluated(samples), evaluated(samples, missed=[3]), MARGINS)
    difference = found(comparison, "sensitivity")
    assert difference.difference == pytest.approx(-0.01)
    assert difference.interval[0] < -0.02
    assert difference.verdict is Verdict.UNCERTAIN
    assert comparison.passed


def test_one_source_cannot_pay_for_another():
    samples = (*figures("big", 200, masks=False), *figures("small", 30, masks=False))
    current = evaluated(samples, missed=[("big", n) for n in range(20)])
    candidate = evaluated(samples, missed=[("small", n) for n in range(3)])
    comparison = compare(current, candidate, MARGINS)
    assert found(comparison, "sensitivity").difference > 0
    assert found(comparison, "sensitivity", "small").verdict is Verdict.WORSE
    assert not comparison.passed


def test_of_few_images_one_error_is_no_proof_but_many_are():
    samples = (*figures("big", 100), *figures("few", 10))
    one = compare(evaluated(samples), evaluated(samples, missed=[("few", 0)]), MARGINS)
    assert found(one, "sensitivity", "few").difference == pytest.approx(-0.1)
    assert found(one, "sensitivity", "few").verdict is Verdict.UNCERTAIN
    assert one.passed
    candidate = evaluated(samples, missed=[("few", number) for number in range(7)])
    many = compare(evaluated(samples, missed=range(50, 60)), candidate, MARGINS)
    assert found(many, "sensitivity").difference > 0
    assert found(many, "sensitivity", "few").verdict is Verdict.WORSE


def few_patients(source, count, patients):
    return tuple(
        replace(each, patient=f"{source}:{number % patients}")
        for number, each in enumerate(figures(source, count))
    )


@pytest.mark.parametrize(
    ("missed", "verdict"),
    [(1, Verdict.UNCERTAIN), (2, Verdict.WORSE), (8, Verdict.WORSE)],
)
def test_a_drop_far_beyond_the_margin_is_worse_also_where_nothing_can_be_resampled(missed, verdict):
    """Of 8 images of 5 patients there is no interval; one image alone is still no proof."""
    samples = (*figures("big", 400), *few_patients("few", 8, 5))
    candidate = evaluated(samples, missed=[("few", number) for number in range(missed)])
    comparison = compare(evaluated(samples), candidate, MARGINS)
    difference = found(comparison, "sensitivity", "few")
    assert difference.interval is None
    assert difference.verdict is verdict
    assert comparison.passed is (verdict is Verdict.UNCERTAIN)


def test_far_beyond_is_more_than_twice_the_margin():
    samples = (*figures("big", 400), *few_patients("few", 16, 5))
    candidate = evaluated(samples, missed=[("few", 0), ("few", 1)])
    entries = [*(f"{metric}=0.02" for metric in METRICS), "few/sensitivity=0.07", "few/auc=0.1"]
    comparison = compare(evaluated(samples), candidate, parse_margins(entries))
    difference = found(comparison, "sensitivity", "few")
    assert difference.difference == pytest.approx(-0.125)
    assert difference.verdict is Verdict.UNCERTAIN


@pytest.mark.parametrize(
    "samples", [figures(count=1), figures(count=19), few_patients("a", 40, 5)], ids=len
)
def test_a_test_set_of_few_images_or_patients_lets_nobody_pass(samples):
    comparison = compare(evaluated(samples), evaluated(samples), MARGINS)
    (reason,) = comparison.reasons
    assert reason.startswith("too few images to judge by overall: dice (")
    assert "at least 20 images must decide a figure, of 6 patients or more" in reason


def test_a_few_images_of_both_classes_do_not_make_up_for_many_of_one():
    """Across sources the AUC counts pairs of one source: only such images decide it."""
    ill, well = (
        tuple(figure(name, n, covid=covid, mask=covid) for n in range(40))
        for name, covid in (("ill", True), ("well", False))
    )
    samples = (*ill, *well, *figures("both", 8))
    comparison = compare(evaluated(samples), evaluated(samples), MARGINS)
    assert found(comparison, "auc_within_sources").count == 8
    assert "auc_within_sources (8); at least" in comparison.reasons[0]


def test_a_source_may_have_a_margin_of_its_own():
    samples = figures()
    candidate = evaluated(samples, missed=range(4))
    generous = [*(f"{metric}=0.2" for metric in METRICS), "a/sensitivity=0.05"]
    comparison = compare(evaluated(samples), candidate, parse_margins(generous))
    assert found(comparison, "sensitivity").verdict is not Verdict.WORSE
    assert found(comparison, "sensitivity", "a").verdict is Verdict.WORSE


def test_a_candidate_that_lost_a_task_is_refused():
    samples = figures()
    candidate = evaluated(samples, tasks=("classification",))
    comparison = compare(evaluated(samples), candidate, MARGINS)
    assert not comparison.passed
    assert found(comparison, "dice").candidate is None
    assert "no such figure" in " ".join(comparison.reasons)
    assert compare(candidate, evaluated(samples), MARGINS).passed


def test_telling_the_sources_apart_is_no_skill():
    """Across sources the AUC is not judged where one source has both classes."""
    samples = figures()
    comparison = compare(evaluated(samples), evaluated(samples), MARGINS)
    assert found(comparison, "auc").verdict is Verdict.SHOWN
    assert found(comparison, "auc_within_sources").verdict is Verdict.NOT_WORSE
    apart = tuple(
        figure(source, n, covid=source == "ill") for source in ("ill", "well") for n in range(30)
    )
    comparison = compare(evaluated(apart), evaluated(apart), MARGINS)
    assert found(comparison, "auc").verdict is Verdict.NOT_WORSE


def test_a_test_set_that_shows_nothing_lets_nobody_pass():
    samples = tuple(
        Sample(f"{n}.png", "a", Split.TEST, str(n), None, np.zeros((SIZE, SIZE), np.float32))
        for n in range(30)
    )
    outputs = SliceOutputs(np.full(30, 0.5, np.float32), None)
    facts = ModelFacts("net", "f" * 64, ("classification",), SIZE)
    both = Evaluated(
        measure(samples, outputs, Decision(), facts, Origin()), samples, outputs, Decision()
    )
    comparison = compare(both, both, MARGINS)
    assert not comparison.passed
    assert "neither class nor lesions" in comparison.reasons[0]


@pytest.mark.parametrize(("covid", "figure"), [(True, "specificity"), (False, "sensitivity")])
def test_a_test_set_of_one_class_lets_nobody_pass(covid, figure):
    """Otherwise a candidate that gives every image the same class could not be worse."""
    samples = tuple(each for each in figures() if each.covid is covid)
    comparison = compare(evaluated(samples), evaluated(samples), MARGINS)
    assert f"auc and {figure} cannot be judged overall" in " ".join(comparison.reasons)
    segmentation = evaluated(samples, tasks=("segmentation",))
    assert compare(segmentation, segmentation, MARGINS).passed is covid, "it has no such task"


@pytest.mark.parametrize("empty", [False, True], ids=["no masks", "empty masks"])
@pytest.mark.parametrize("said", [True, False])
def test_a_test_set_without_drawn_lesions_lets_nobody_pass(said, empty):
    """Otherwise a candidate that calls every pixel a lesion, or none, could not be worse."""
    samples = figures(masks=False)
    if empty:
        nothing = np.zeros((SIZE, SIZE), bool)
        samples = tuple(each if each.covid else replace(each, mask=nothing) for each in samples)
    current, candidate = evaluated(samples), evaluated(samples)
    candidate.outputs.lesions[:] = said
    told = "dice cannot be judged overall: no lesions are drawn in the test set"
    assert told in compare(current, candidate, MARGINS).reasons
    classifier = evaluated(samples, tasks=("classification",))
    assert compare(classifier, candidate, MARGINS).passed, "the current one draws no lesions"
    assert told in compare(current, classifier, MARGINS).reasons, "a lost task"


def test_objections_refuse_whatever_the_figures_are():
    samples = figures()
    same = evaluated(samples)
    comparison = compare(same, same, MARGINS, objections=["it has seen them"], notes=["so so"])
    assert comparison.reasons == ("it has seen them",)
    document = comparison.document()
    assert document["passed"] is False
    assert document["notes"] == ("so so",)


def test_other_images_cannot_be_compared():
    with pytest.raises(EvaluationError, match="different images"):
        compare(evaluated(figures()), evaluated(figures("b")), MARGINS)


@pytest.mark.parametrize(
    "entries",
    [["auc=0.02"], ["recall=0.1"], ["auc=x"], ["auc=-1"], ["auc=1"], ["/auc=0.1"], ["auc"]],
)
def test_margins_that_cannot_be_read_are_named(entries):
    with pytest.raises(ConfigError, match="promotion margin"):
        parse_margins(entries)
