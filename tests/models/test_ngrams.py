"""N-grams found with arrays are those of a slow and plain implementation, whatever the texts are."""

import math
import os
import subprocess
import sys
import tracemalloc
import unicodedata
from collections import Counter
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from scipy import sparse

from rehead.models import ngram_hashes, ngrams
from rehead.models.ngrams import Ngrams

MASK = 2**64 - 1
BASE = 0x9E3779B97F4A7C15
TEXTS = st.lists(
    st.one_of(
        st.text(alphabet="abAB ß_1!#' \n\t中文かé\u093e\u0928😀\ud800", max_size=12),
        st.text(max_size=20),
        st.sampled_from(["the cat", "The cat sat!", "so so so", "win, win!!", "中文 字符"]),
    ),
    max_size=8,
)


def mixed(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def polynomial(term: str) -> int:
    return sum(mixed((ord(character) + BASE) & MASK) * pow(BASE, i, 2**64) for i, character in enumerate(term)) & MASK


def word_hash(term: str) -> int:
    return mixed(polynomial(term))


def pair_hash(first: str, second: str) -> int:
    return mixed((word_hash(first) * 0xD6E8FEB86659FD93 + word_hash(second)) & MASK)


def character_hash(term: str) -> int:
    return mixed((polynomial(term) + len(term)) & MASK)


def kind(character: str) -> str:
    code = ord(character)
    if character.isspace():
        return "space"
    if any(low <= code <= high for low, high in ngram_hashes.IDEOGRAPHS):
        return "ideograph"
    return "word" if unicodedata.category(character)[0] in "LNM" or character == "_" else "other"


def runs_of(text: str) -> list[str]:
    return ["".join(run) for which, run in groupby(text.casefold(), kind) if which != "space"]


def reference_counts(text: str) -> tuple[Counter[int], Counter[int]]:
    runs = runs_of(text)
    words = [piece for run in runs for piece in (run if kind(run[0]) == "ideograph" else [run])]
    padded = [f" {run} " for run in runs]
    return (
        Counter([*map(word_hash, words), *(pair_hash(*pair) for pair in pairwise(words))]),
        Counter(character_hash(run[i : i + n]) for run in padded for n in range(2, 6) for i in range(len(run) - n + 1)),
    )


def reference(train: list[str], texts: list[str]) -> np.ndarray:
    """(n, width) features, dense, term by term."""
    blocks = []
    for block in (0, 1):
        frequencies = Counter(term for text in train for term in reference_counts(text)[block])
        terms = sorted(term for term, n in frequencies.items() if n >= 2)
        rows = np.zeros((len(texts), len(terms)))
        for i, text in enumerate(texts):
            counts = reference_counts(text)[block]
            for j, term in enumerate(terms):
                if term in counts:
                    idf = math.log((1 + len(train)) / (1 + frequencies[term])) + 1
                    rows[i, j] = (1 + math.log(counts[term])) * idf
            rows[i] /= np.linalg.norm(rows[i]) or 1.0
        blocks.append(rows)
    return np.hstack(blocks)


@settings(deadline=None, max_examples=60)
@given(TEXTS, TEXTS)
def test_features_are_those_of_the_plain_implementation(train: list[str], texts: list[str]) -> None:
    learned, features = Ngrams.fit_transform(train)
    np.testing.assert_allclose(features.toarray(), reference(train, train), atol=1e-6)
    np.testing.assert_allclose(learned.transform(texts).toarray(), reference(train, texts), atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(TEXTS, st.text(alphabet="the catßİ, 中文!", max_size=20))
def test_shares_of_the_tokens_add_up_to_the_features(train: list[str], text: str) -> None:
    learned = Ngrams.fit_transform([*train, *train, text])[0]
    spans, shares = learned.shares(text)
    np.testing.assert_allclose(shares.toarray().sum(0), learned.transform([text]).toarray()[0], atol=1e-6)
    assert [text[start:end].casefold() for start, end in spans] == runs_of(text)


@settings(deadline=None, max_examples=30)
@given(TEXTS, st.randoms())
def test_order_of_the_texts_changes_nothing_but_the_rows(train: list[str], random: object) -> None:
    order = np.random.default_rng(0).permutation(len(train))
    learned, features = Ngrams.fit_transform(train)
    again, permuted = Ngrams.fit_transform([train[i] for i in order])
    for name, array in learned.tensors().items():
        np.testing.assert_array_equal(array, again.tensors()[name])
    np.testing.assert_array_equal(features.toarray()[order], permuted.toarray())


def test_portions_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["the cat sat", "The cat!", "", "a dog sat there", "中文字符 cat"] * 3
    whole, features = Ngrams.fit_transform(texts)
    monkeypatch.setattr(ngrams, "_PORTION", 7)
    parts, in_parts = Ngrams.fit_transform(texts)
    for name, array in whole.tensors().items():
        np.testing.assert_array_equal(array, parts.tensors()[name])
    np.testing.assert_array_equal(features.toarray(), in_parts.toarray())


def test_learning_takes_five_times_the_memory_of_the_features_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"{first} {second} and {first}{second}" for first in range(30) for second in range(30)]
    monkeypatch.setattr(ngrams, "_PORTION", 2**10)
    tracemalloc.start()
    features = Ngrams.fit_transform(texts)[1]
    _, learning = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert learning < 5 * (features.data.nbytes + features.indices.nbytes)


def test_hashes_are_pinned() -> None:
    """Saved folders hold them: they must never change."""
    learned = Ngrams.fit_transform(["Hi 中"] * 2)[0]
    assert learned.words.tolist() == PINNED_WORDS
    assert sorted(learned.words.tolist()) == sorted([word_hash("hi"), word_hash("中"), pair_hash("hi", "中")])
    assert character_hash(" hi ") in learned.characters.tolist()


PINNED_WORDS = [182894490380392369, 2816395314858851229, 3933410342738536300]


def test_hashes_do_not_hang_on_the_process() -> None:
    learned = "Ngrams.fit_transform(['a b', 'b a'])[0]"
    code = f"from rehead.models.ngrams import Ngrams; print({learned}.tensors()['word_ngrams'].tolist())"
    source = str(Path(ngrams.__file__).parents[2])
    answers = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": source},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(answers) == 1


def test_saved_ones_give_the_same_features(tmp_path: Path) -> None:
    texts = ["the cat sat", "the dog sat", "no cat!"]
    learned, features = Ngrams.fit_transform(texts)
    save_file(learned.tensors(), tmp_path / "ngrams.safetensors")
    again = Ngrams.from_tensors(load_file(tmp_path / "ngrams.safetensors"))
    np.testing.assert_array_equal(again.transform(texts).toarray(), features.toarray())


def test_texts_of_which_nothing_is_known_have_no_features() -> None:
    learned = Ngrams.fit_transform(["abc", "abc"])[0]
    assert learned.transform(["xyz", "", " \n"]).nnz == 0
    assert Ngrams.fit_transform([])[0].transform(["abc"]).shape == (1, 0)
    assert Ngrams.fit_transform(["abc", "xyz"])[0].width == 0


def test_chinese_without_spaces_shares_characters_and_pairs() -> None:
    learned = Ngrams.fit_transform(["我喜欢这部电影", "这部电影很好", "很好"])[0]
    features = learned.transform(["电影"]).toarray()[0]
    assert {word_hash("电"), word_hash("影"), pair_hash("电", "影")} <= set(
        learned.words[features[: len(learned.words)] > 0]
    )


def test_one_text_of_a_million_characters_takes_no_longer_than_many_short_ones() -> None:
    long = Ngrams.fit_transform(["x" * 10**6, "x" * 10**6])[0]
    assert long.width == 1 + 4 + 8  # the word, the n-grams of nothing but x, and those with a space at either end


@given(TEXTS, TEXTS)
@settings(max_examples=60)
def test_features_by_numpy_alone_are_the_same(learned_from: list[str], texts: list[str]) -> None:
    known = Ngrams.fit_transform([*learned_from, *learned_from])[0]
    places, values = ngram_hashes.features(texts, known.words, known.characters, known.idf)
    found = np.zeros((len(texts), max(1, known.width)), dtype=np.float32)
    np.add.at(found, (np.arange(len(texts))[:, None], places), values)
    expected = known.transform(texts).toarray() if known.width else np.zeros_like(found)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert (places.dtype, values.dtype) == (np.int64, np.float32)


def test_hashing_needs_numpy_alone() -> None:
    imported = {
        line.split()[1].split(".")[0] for line in _source().splitlines() if line.startswith(("import ", "from "))
    }
    assert imported - set(sys.stdlib_module_names) == {"numpy"}


def _source() -> str:
    return Path(ngram_hashes.__file__).read_text(encoding="utf-8")


@given(TEXTS, TEXTS)
@settings(max_examples=60)
def test_sketch_of_a_sum_is_the_sum_of_the_sketches(learned_from: list[str], texts: list[str]) -> None:
    known = Ngrams.fit_transform([*learned_from, *learned_from])[0]
    features = known.transform(texts)
    sketch = known.sketch(features)
    assert (sketch.shape, sketch.dtype) == ((len(texts), ngrams.SKETCH_WIDTH), np.float32)
    total = sparse.csr_matrix(features.sum(0))
    np.testing.assert_allclose(known.sketch(total)[0], sketch.sum(0), atol=1e-5)


def test_sketch_keeps_inner_products_on_average() -> None:
    generator = np.random.default_rng(0)
    words = ["".join(generator.choice(list("abcdefgh"), 4)) for _ in range(200)]
    texts = [" ".join(generator.choice(words, 20)) for _ in range(80)]
    known, features = Ngrams.fit_transform(texts)
    sketch = known.sketch(features)
    exact = (features @ features.T).toarray()
    errors = sketch @ sketch.T - exact
    assert abs(errors.mean()) < 0.02
    assert errors.std() < 0.2  # of products of rows of length 2 ** 0.5: 2 / 256 ** 0.5 at most
