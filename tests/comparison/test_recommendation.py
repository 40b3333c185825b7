"""The rules by which an approach is recommended: each in words, for results made to meet it."""

import numpy as np

from rehead.comparison.recommendation import Outcome, gain, p_value, recommend

N = 1000


def result(name: str, errors: int, *, seconds: float = 1.0, milliseconds: float = 1.0, shift: int = 0) -> Outcome:
    """Right but for `errors` texts, the first of which stands at `shift`."""
    right = np.ones(N, bool)
    right[shift : shift + errors] = False
    return Outcome(
        name=name,
        title=name.upper(),
        right=right,
        tested=np.ones(N, bool),
        seconds=seconds,
        milliseconds=milliseconds,
    )


def test_gain_within_noise_is_not_worth_a_language_model() -> None:
    name, reasons = recommend([result("tfidf", 30), result("majority", 500), result("probe:a", 27, shift=100)])
    assert name == "tfidf"
    assert reasons[0].startswith("Use TFIDF: the gain of PROBE:A, 0.3 points, is within noise (p = 0.")


def test_what_is_behind_is_called_behind() -> None:
    name, reasons = recommend([result("tfidf", 30), result("last-1", 60)])
    assert name == "tfidf"
    assert reasons[0] == "Use TFIDF: none of the others is better; the best of them, LAST-1, is 3.0 points behind."


def test_clear_gain_is_worth_it() -> None:
    name, reasons = recommend([result("tfidf", 60), result("probe:a", 20)])
    assert name == "probe:a"
    assert reasons[0] == "Use PROBE:A: 98.0 % against 94.0 % for TFIDF (p < 0.001)."


def test_of_those_as_good_the_fastest_answers() -> None:
    slow = result("full", 18, milliseconds=30.0)
    name, reasons = recommend([result("tfidf", 60), slow, result("probe:a", 20, milliseconds=2.0)])
    assert name == "probe:a"
    assert reasons[1].startswith("FULL has 98.2 %, which may be luck")
    assert "15.0 times as long a text" in reasons[1]


def test_clearly_better_one_is_taken_however_slow() -> None:
    name, _ = recommend([result("tfidf", 90), result("full", 5, milliseconds=99.0), result("probe:a", 40)])
    assert name == "full"


def test_many_approaches_must_be_surer_of_themselves() -> None:
    # Seven texts more: p = 0.016, enough for one approach, not for one of eight.
    lucky = result("probe:a", 23)
    alone, _ = recommend([result("tfidf", 30), lucky])
    crowded, reasons = recommend([result("tfidf", 30), lucky, *(result(f"probe:{i}", 31) for i in range(7))])
    assert (alone, crowded) == ("probe:a", "tfidf")
    assert "(p = 0.125 for 8 approaches)" in reasons[0]


def test_what_is_clearly_worse_does_not_count_against_the_others() -> None:
    # As Holm has it: what is rejected already is no longer among those that may be lucky.
    hopeless = [result(f"zero-shot:{i}", 400) for i in range(7)]
    name, _ = recommend([result("tfidf", 30), result("probe:a", 23), *hopeless])
    assert name == "probe:a"


def test_instruction_fine_tuning_is_compared_with() -> None:
    taught = result("instruction", 90, seconds=400.0, milliseconds=80.0)
    _, reasons = recommend([result("tfidf", 60), result("probe:a", 13, seconds=20.0, milliseconds=4.0), taught])
    assert reasons[1] == (
        "It has 7.7 points more than instruction fine-tuning on the same texts (p < 0.001), which learned 20.0 times "
        "as long and takes 20.0 times as long a text."
    )


def test_labels_that_change_call_for_words_only_if_these_nearly_keep_up() -> None:
    heads = [result("tfidf", 90), result("probe:a", 20, seconds=12.0)]
    _, good = recommend([*heads, result("few-shot", 50)])
    _, poor = recommend([*heads, result("few-shot", 400)])
    assert good[-1] == "If your labels change all the time, use FEW-SHOT: it takes new ones as they come."
    assert poor[-1].startswith("Even if your labels change, learn again (12 s): FEW-SHOT takes new ones")


def test_approaches_are_compared_on_the_texts_that_both_were_tried_on() -> None:
    some = result("few-shot", 0)
    some.tested[:100] = False
    assert gain(some, result("tfidf", 100)) == 0.0
    assert p_value(some, result("tfidf", 100)) == 1.0
    assert p_value(some, result("tfidf", 200)) < 1e-6


def test_nothing_else_was_tried() -> None:
    assert recommend([result("tfidf", 1)]) == ("tfidf", ["Use TFIDF: nothing else was tried."])


def test_few_texts_do_not_make_a_worse_approach_as_good() -> None:
    # The leader was tried on a hundred texts, where the probe's five more errors may be luck; on all they are not.
    leader = result("instruction", 0, milliseconds=80.0)
    leader.tested[100:] = False
    full = result("full", 15, shift=500, milliseconds=50.0)
    probe = result("probe:a", 50, shift=96)
    name, _ = recommend([result("tfidf", 120), leader, full, probe])
    assert name == "full"
