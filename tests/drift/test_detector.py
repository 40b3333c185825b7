"""What has changed is found, and nothing else; where nothing has, nothing is found."""

import numpy as np
import pytest

from rehead.artifact.predictor import Scores
from rehead.drift.detector import LEAST, Detector, Measure, advice, drifted
from rehead.drift.reference import ReferenceProfile
from tests.drift import synthetic

DETECTOR = Detector(synthetic.reference())
ALL = ["label", "confidence", "length", "vocabulary", "embedding"]


def measured(n: int, seed: int, detector: Detector = DETECTOR, **changed: float) -> dict[str, Measure]:
    return detector.measures(detector.reference.observed(*synthetic.inputs(n, seed, **changed)))


def moved(measures: dict[str, Measure]) -> list[str]:
    return [name for name, measure in measures.items() if measure.drifted]


@pytest.mark.parametrize("n", [200, 1000])
@pytest.mark.parametrize(
    ("aspect", "changed"),
    [
        ("label", {"spam": 0.6}),
        ("confidence", {"sureness": 2.0}),
        ("confidence", {"sureness": 4.5}),
        ("length", {"words": 18.0}),
        ("vocabulary", {"unknown": 0.2}),
        ("embedding", {"moved": 0.5}),
    ],
)
def test_what_has_changed_is_found_and_nothing_else(aspect: str, changed: dict[str, float], n: int) -> None:
    for seed in (1, 2, 3):
        assert moved(measured(n, seed, **changed)) == [aspect]


def test_where_nothing_has_changed_hardly_anything_is_found() -> None:
    """Of new references, too, as one that is unlucky would be so each time."""
    samples = alarms = 0
    for of in range(10):
        detector = Detector(synthetic.reference(500, seed=10_000 + of))
        for seed in range(20):
            n = (100, 200, 350, 500)[seed % 4]
            alarms += bool(moved(measured(n, 100 + 50 * of + seed, detector)))
            samples += 1
    assert samples == 200
    assert alarms <= 2


def test_small_references_raise_no_alarms_either() -> None:
    alarms = 0
    for of in range(20):
        detector = Detector(synthetic.reference(40, seed=20_000 + of))
        alarms += sum(bool(moved(measured(200, 100 + 50 * of + seed, detector))) for seed in range(3))
    assert alarms <= 3


def test_thresholds_fall_with_the_number_of_inputs_down_to_their_floors() -> None:
    few, many = measured(100, 1), measured(20_000, 1)
    assert list(few) == list(many) == ALL
    for name in ALL:
        assert many[name].threshold <= few[name].threshold
    assert many["length"].threshold == many["label"].threshold == many["confidence"].threshold == 0.1
    assert not moved(many)


def test_a_trifle_is_no_drift_however_many_inputs_there_are() -> None:
    assert not moved(measured(20_000, 1, spam=0.34, words=12.5, unknown=0.05, moved=0.05))


def test_thresholds_are_the_same_in_every_process_and_order() -> None:
    again = Detector(DETECTOR.reference)
    measured(300, 5, again)
    assert measured(150, 1, again) == measured(150, 1)


def test_of_few_inputs_nothing_is_said() -> None:
    few = measured(LEAST - 1, 1, words=100.0)
    assert few == {}
    assert drifted(few) is None
    assert "too few" in advice(few)
    assert drifted(measured(LEAST, 1, words=100.0)) is True


def test_words_that_are_better_known_are_no_drift() -> None:
    measures = measured(2000, 1, unknown=0.0)
    assert measures["vocabulary"].value == 0
    assert not moved(measures)


def test_without_features_the_rest_is_compared() -> None:
    texts, scores = synthetic.inputs(300, 1, words=30.0)
    without = Scores(scores.probabilities, scores.tokens_cut, 0.0)
    measures = DETECTOR.measures(DETECTOR.reference.observed(texts, without))
    assert list(measures) == ALL[:-1]
    assert moved(measures) == ["length"]


def test_a_class_that_was_never_predicted_need_not_be_impossible() -> None:
    learned, _ = synthetic.inputs(1000, 7)
    texts, scores = synthetic.inputs(40, 0, spam=0.0)
    assert scores.features is not None
    reference = ReferenceProfile.of(learned, texts, scores.probabilities, scores.features, multilabel=False)
    assert moved(measured(200, 1, Detector(reference), spam=0.01)) == []
    assert "label" in moved(measured(200, 1, Detector(reference), spam=0.5))


def of_three(n: int, seed: int, shares: tuple[float, ...]) -> tuple[list[str], Scores]:
    texts, scores = synthetic.inputs(n, seed)
    return texts, Scores(synthetic.of_three_labels(n, seed, shares), scores.tokens_cut, 0.0, scores.features)


def test_labels_of_which_an_input_has_several() -> None:
    same, other = (0.5, 0.2, 0.1), (0.5, 0.2, 0.35)
    texts, scores = of_three(800, 0, same)
    assert scores.features is not None
    reference = ReferenceProfile.of(texts, texts, scores.probabilities, scores.features[:512], multilabel=True)
    detector = Detector(reference)
    alarms = 0
    for seed in range(50):
        measures = detector.measures(reference.observed(*of_three(200, seed + 1, same)))
        alarms += measures["label"].drifted
    assert alarms <= 1
    measures = detector.measures(reference.observed(*of_three(300, 99, other)))
    assert measures["label"].drifted
    assert measures["label"].value == pytest.approx(0.25, abs=0.08)


def test_advice_is_a_sentence_about_what_has_changed() -> None:
    said = {
        name: advice(measured(500, 1, **changed))
        for name, changed in {
            "nothing": {},
            "kind": {"words": 30.0, "spam": 0.7},
            "mix": {"spam": 0.7},
            "less": {"sureness": 1.0},
            "more": {"sureness": 6.0},
        }.items()
    }
    assert "nothing needs to be done" in said["nothing"]
    assert "another kind" in said["kind"]
    assert "(length)" in said["kind"]
    assert "mix" in said["mix"]
    assert "is less sure" in said["less"]
    assert "is surer" in said["more"]
    assert all(sentence.endswith(".") and "\n" not in sentence for sentence in said.values())


def test_values_are_numbers_that_mean_something() -> None:
    measures = measured(2000, 1, spam=0.5, words=24.0, unknown=0.23)
    assert measures["label"].value == pytest.approx(0.2, abs=0.05)
    assert measures["vocabulary"].value == pytest.approx(0.2, abs=0.03)
    length = measures["length"]
    assert length.reference is not None
    assert length.now is not None
    assert length.now == pytest.approx(2 * length.reference, rel=0.1)
    assert all(0 <= measure.value <= 1 and np.isfinite(measure.threshold) for measure in measures.values())
