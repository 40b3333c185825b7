"""The parts of the accuracy benchmark that compute: division, scores, McNemar's test, the page."""

import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score, log_loss

# The benchmarks are scripts that import each other by name, as Python does for a script's own folder.
sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import accuracy_page
import accuracy_scores
import accuracy_sets


def test_texts_that_are_nearly_the_same_stay_on_one_side_of_the_division():
    def text(i):
        return f"message {'abcdefghij'[i % 10] * 9} {'klmnopqrst'[i // 10] * 9} of the day, with words of its own"

    rows = [(("spam", "ham")[i % 2], text(i)) for i in range(60)]
    copies = [(label, f"{text}!") for label, text in rows]
    parts = accuracy_sets._divide_texts([*rows, *copies, *rows])
    assert len(parts["train"]) + len(parts["test"]) == 120, "repeats are left out, the rest is there once"
    stems = [{text.rstrip("!") for _, text in parts[part]} for part in ("train", "test")]
    assert not stems[0] & stems[1]


def test_scores_are_those_of_scikit_learn():
    generator = np.random.default_rng(0)
    truth, probabilities = generator.integers(0, 4, 300), generator.dirichlet(np.ones(4), 300)
    guess, classes = probabilities.argmax(axis=1), list("abcd")
    told = accuracy_scores.score(_encoded(truth), _encoded(guess), classes, probabilities, "b", False)
    assert told["accuracy"] == (truth == guess).mean()
    assert told["macro_f1"] == pytest.approx(f1_score(truth, guess, average="macro"))
    assert told["f1"] == pytest.approx(f1_score(truth, guess, average=None)[1])
    assert told["log_loss"] == pytest.approx(log_loss(truth, probabilities))


def test_scores_of_several_labels_a_text_are_those_of_scikit_learn():
    generator = np.random.default_rng(0)
    truth, guess = generator.random((2, 200, 10)) < 0.3
    classes = list("abcdefghij")

    def encoded(bits):
        return accuracy_scores.encode([[classes[i] for i in np.flatnonzero(row)] for row in bits], classes, True)

    packed = accuracy_scores.pack(encoded(truth))
    told = accuracy_scores.score(accuracy_scores.unpack(packed, 200), encoded(guess), classes, None, None, True)
    assert told["accuracy"] == (truth == guess).all(axis=1).mean()
    assert told["micro_f1"] == pytest.approx(f1_score(truth, guess, average="micro"))
    assert told["macro_f1"] == pytest.approx(f1_score(truth, guess, average="macro"))
    assert told["ece"] is None


def test_mcnemar_counts_the_rows_that_only_one_has_right():
    first, second = np.array([True] * 9 + [False] * 3), np.array([False] * 8 + [True] * 3 + [False])
    # 8 against 2 of 10: 2 × (1 + 10 + 45) / 1024.
    assert accuracy_scores.mcnemar(first, second) == (8, 2, pytest.approx(112 / 1024))
    assert accuracy_scores.mcnemar(first, first) == (0, 0, 1.0)


def test_the_page_tells_what_is_met_missed_and_missing(tmp_path):
    rows = [
        _row("cr", "balanced", seed, wrong, 20) | {"facts": {"calibration": {"ece_before": 0.25}}}
        for seed, wrong in enumerate((5, 6, 7))
    ]
    rows += [_row("cr", "finetuned", seed, 40, 220) for seed in range(3)]
    rows += [_row("cr", "tfidf-svm", 0, 1, 3)]
    rows += [{**_key("cr", "setfit", 0), "status": "timeout", "reason": "took longer than 5,400 s"}]
    told = accuracy_page.Results(rows, "minilm")
    goals = {goal.told: goal for goal in accuracy_page.targets(told)}
    assert goals["`balanced` on cr: accuracy of 91.0% or more"].met
    assert goals["`balanced` on mr: accuracy of 87.0% or more"].met is None
    assert next(goal for told, goal in goals.items() if "times as fast" in told).found == "11.0 times, 1 sets"
    assert told.test("cr", "balanced", "tfidf-svm")[2] > accuracy_page.SIGNIFICANT
    assert told.test("cr", "balanced", "finetuned")[:2] == (102, 0)
    page = accuracy_page.page(told, "figure.svg")
    for part in ("97.00% ± 0.50%", "took longer than 5,400 s", "0.250", "mr: `rehead --preset quick`", "timeout"):
        assert part in page
    accuracy_page.draw(told, tmp_path / "figure.svg")
    assert (tmp_path / "figure.svg").stat().st_size > 1000


def test_of_rows_that_were_measured_twice_the_later_counts():
    told = accuracy_page.Results([_row("cr", "best", 0, 50, 9), _row("cr", "best", 0, 10, 9)], "minilm")
    assert told.mean("cr", "best", "accuracy") == 0.95


def _encoded(ids):
    return accuracy_scores.encode([["abcd"[i]] for i in ids], "abcd", False)


def _key(name, method, seed):
    base = None if method.startswith("tfidf") else "minilm"
    return {"set": name, "method": method, "base": base, "seed": seed, "shots": None}


def _row(name, method, seed, n_wrong, seconds):
    """A row with 200 answers, of which the first so many are wrong."""
    truth, classes = np.arange(200) % 2, ["a", "b"]
    guess = np.where(np.arange(200) < n_wrong, 1 - truth, truth)
    codes = [accuracy_scores.encode([[classes[i]] for i in ids], classes, False) for ids in (truth, guess)]
    return {
        **_key(name, method, seed),
        "status": "ok",
        "commit": "0000000",
        "time": "2026-01-01T00:00:00Z",
        "machine": {"cores": 2, "processor": "one", "flags": "avx2"},
        "versions": {"torch": "2.13.0"},
        "data": {"rows": {"train": 800, "test": 200}, "digest": "abc"},
        "seconds": seconds,
        "peak_bytes": 10**9,
        "facts": {},
        "metrics": accuracy_scores.score(*codes, classes, np.eye(2)[guess], None, False),
        "n_test": 200,
        "truth": accuracy_scores.pack(codes[0]),
        "predicted": accuracy_scores.pack(codes[1]),
    }
