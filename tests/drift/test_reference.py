"""A fingerprint comes back as it was saved, holds no text, and nothing else is taken for one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rehead.drift.reduction import DIRECTIONS, Reduction
from rehead.drift.reference import FILE, ReferenceProfile
from rehead.runtime.errors import ArtifactError
from tests.drift import synthetic

REFERENCE = synthetic.reference()
Arrays = dict[str, np.ndarray]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    REFERENCE.save(tmp_path)
    return tmp_path


def test_it_comes_back_as_it_was_saved(folder: Path) -> None:
    loaded = ReferenceProfile.load(folder)
    assert loaded is not None
    texts, scores = synthetic.inputs(50, 1)
    before, after = REFERENCE.observed(texts, scores).arrays(), loaded.observed(texts, scores).arrays()
    assert before.keys() == after.keys() == {"labels", "confidence", "features", "length", "unknown"}
    for name, array in before.items():
        assert np.array_equal(array, after[name]), name
    assert loaded.n == REFERENCE.n
    assert np.array_equal(loaded.features, REFERENCE.features)
    assert loaded.confidence.mean == REFERENCE.confidence.mean
    assert (folder / FILE).stat().st_size < 100_000


def test_there_may_be_none(tmp_path: Path) -> None:
    assert ReferenceProfile.load(tmp_path) is None


def test_no_word_of_any_text_is_in_it(folder: Path) -> None:
    content = (folder / FILE).read_bytes()
    held_out, _ = synthetic.inputs(800, 0)
    assert not any(text.encode() in content for text in held_out)


def test_the_largest_has_less_than_two_megabytes(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    letters = generator.integers(97, 123, (10_000, 400), dtype=np.uint8)
    letters[:, ::7] = 32
    texts = [row.tobytes().decode() for row in letters]
    probabilities = generator.dirichlet(np.ones(1000), 2000)
    features = generator.normal(size=(512, 4096)).astype(np.float32)
    ReferenceProfile.of(texts, texts[:2000], probabilities, features, multilabel=False).save(tmp_path)
    assert len(load_file(tmp_path / FILE)["words"]) == 200_000
    assert (tmp_path / FILE).stat().st_size < 2_000_000


def test_what_head_sees_keeps_its_distances_when_it_is_reduced() -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(200, 500)).astype(np.float32)
    features[:, 3] *= 1e4  # such as language models have
    features[:, 4] = 7
    reduction = Reduction.of(features)
    reduced = reduction.reduced(features)
    assert reduced.shape == (200, DIRECTIONS)
    assert reduced.dtype == np.float32
    standardised = (features - features.mean(0)) / np.maximum(features.std(0), 1e-3)
    first, second = np.triu_indices(200, 1)
    kept = np.linalg.norm(reduced[first] - reduced[second], axis=1)
    true = np.linalg.norm(standardised[first] - standardised[second], axis=1)
    ratio = kept / true / np.sqrt(DIRECTIONS / 500)
    assert 0.9 < ratio.mean() < 1.1
    assert ratio.std() < 0.2
    assert np.isfinite(reduction.reduced(features + 1)).all()


def replaced(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Arrays], None]:
    def apply(arrays: Arrays) -> None:
        arrays[name] = change(arrays[name])

    return apply


DAMAGES = {
    "a part is missing": lambda arrays: arrays.pop("confidence.bounds"),
    "a later format": replaced("format", lambda a: a + 1),
    "another type": replaced("label_shares", lambda a: a.astype(np.float32)),
    "another shape": replaced("features", lambda a: a[:, :5].copy()),
    "no features": replaced("features", lambda a: a[:0]),
    "features without end": replaced("features", lambda a: a * np.float16(np.inf)),
    "shares of more than all": replaced("label_shares", lambda a: a * 2),
    "a negative share": replaced("length.shares", lambda a: a - 0.01),
    "bounds that fall": replaced("unknown.bounds", lambda a: a[::-1].copy()),
    "a bound too many": replaced("length.bounds", lambda a: np.append(a, a[-1] + 1).astype(a.dtype)),
    "a mean that is no number": replaced("length.centers", lambda a: a * np.nan),
    "a negative number of inputs": replaced("n", lambda a: -a),
    "no input": replaced("length.n", lambda a: a * 0),
    "words in disorder": replaced("words", lambda a: a[::-1].copy()),
    "a scale of nothing": replaced("scale", lambda a: a * 0),
    "a scale for fewer features": replaced("scale", lambda a: a[1:].copy()),
    "a center at the end of the world": replaced("center", lambda a: a + np.float32(1e30)),
    "a probability of more than one": replaced("mean_probabilities", lambda a: a + 1),
    "a matrix for a vector": replaced("center", lambda a: a[:, None].copy()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_refused_in_a_line(damage: str, folder: Path) -> None:
    arrays = load_file(folder / FILE)
    DAMAGES[damage](arrays)
    save_file(arrays, folder / FILE)
    assert_refused(folder)


def assert_refused(folder: Path) -> None:
    with pytest.raises(ArtifactError) as refused:
        ReferenceProfile.load(folder)
    message = str(refused.value)
    assert FILE in message
    assert "again" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not safetensors",
        b"\xff" * 64,
        b"\x02\0\0\0\0\0\0\0{}",
        b'\x3e\0\0\0\0\0\0\0{"format":{"dtype":"I64","shape":[9],"data_offsets":[0,72]}}  ',
        b'\x40\0\0\0\0\0\0\0{"format":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}    \0\0',
        b'\x40\0\0\0\0\0\0\0{"format":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}} \0',
    ],
)
def test_what_is_something_else_is_refused_in_a_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(content)
    assert_refused(tmp_path)


def test_a_part_of_one_is_refused(folder: Path) -> None:
    content = (folder / FILE).read_bytes()
    for length in range(0, len(content), 2999):
        (folder / FILE).write_bytes(content[:length])
        assert_refused(folder)


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    assert_refused(tmp_path)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / FILE).open("wb") as file:
        file.truncate(10**11)
    assert_refused(tmp_path)


def test_another_classifiers_is_refused(folder: Path) -> None:
    REFERENCE.require_for(2, synthetic.WIDTH, folder)
    for n_classes, width in ((3, synthetic.WIDTH), (2, 7)):
        with pytest.raises(ArtifactError, match=r"another classifier's; train or copy"):
            REFERENCE.require_for(n_classes, width, folder)
