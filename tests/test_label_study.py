"""What labels are worth: planted errors come first, and a curve says what more labels would bring."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rehead import Classifier
from rehead.analysis.label_study import curve_of_model, label_errors
from rehead.data import samples
from rehead.data.parts import Sources
from rehead.runtime.errors import DataError
from rehead.workflows.fit import fit
from tests.tiny_models import save_tiny_model
from tests.tiny_texts import messages, write_csv


def flipped(n: int, every: int) -> tuple[list[str], list[str], set[int]]:
    """Messages, labels of which one in `every` is wrong, and the rows (from 2, behind the header) of these."""
    texts, labels = messages(n)
    wrong = set(range(5, n, every))
    swap = {"ham": "spam", "spam": "ham"}
    return texts, [swap[label] if i in wrong else label for i, label in enumerate(labels)], {i + 2 for i in wrong}


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, set[int]]:
    """A classifier trained on noisy labels, these, and the rows where they are wrong."""
    folder = tmp_path_factory.mktemp("noisy")
    texts, labels, wrong = flipped(400, 20)
    data = write_csv(folder / "data.csv", ["text", "label"], zip(texts, labels, strict=True))
    base = save_tiny_model(folder / "base", "llama")
    fit(str(data), Classifier(str(base), tune="head", depth=1, pool="mean"), folder / "model")
    return folder / "model", data, wrong


def test_planted_errors_are_the_most_suspicious(noisy: tuple[Path, Path, set[int]], tmp_path: Path) -> None:
    model, data, wrong = noisy
    facts = label_errors(model, str(data), tmp_path / "errors.csv").to_json()
    table = pd.read_csv(tmp_path / "errors.csv")
    assert facts["examined"] == len(table)
    first = set(table["row"][: len(table) // 10])
    assert len(first & wrong) >= 0.8 * len(wrong)
    assert table["margin"].is_monotonic_increasing
    assert facts["suspected"] == table["suspected"].sum()
    planted = table[table["row"].isin(wrong)]
    assert (planted["label"] != planted["suggested"]).all()


def test_curve_falls_and_says_what_more_labels_bring(noisy: tuple[Path, Path, set[int]]) -> None:
    model, data, _ = noisy
    told = curve_of_model(model, str(data)).to_json()
    assert told["sizes"] == [32, 64, 128]
    assert all(0 <= error <= 1 for errors in told["errors"] for error in errors)
    assert "more labels" in told["verdict"]


def test_too_few_examples_for_a_curve_are_refused(noisy: tuple[Path, Path, set[int]], tmp_path: Path) -> None:
    texts, labels = messages(40)
    data = write_csv(tmp_path / "few.csv", ["text", "label"], zip(texts, labels, strict=True))
    with pytest.raises(DataError, match="too few for a learning curve"):
        curve_of_model(noisy[0], str(data))


def test_class_with_one_example_is_examined_too(noisy: tuple[Path, Path, set[int]], tmp_path: Path) -> None:
    texts, labels = messages(100)
    train = write_csv(tmp_path / "train.csv", ["text", "label"], [*zip(texts, labels, strict=True), ("lone", "rare")])
    test = write_csv(tmp_path / "test.csv", ["text", "label"], [("another", "ham"), ("lone too", "rare")])
    base = save_tiny_model(tmp_path / "base", "bert")
    fit(Sources(str(train), test=str(test)), Classifier(str(base), tune="head", depth=1), tmp_path / "model")
    facts = label_errors(tmp_path / "model", str(train), tmp_path / "errors.csv").to_json()
    table = pd.read_csv(tmp_path / "errors.csv").set_index("label")
    assert facts["examined"] == len(table) >= 90
    assert table.loc["rare", "suggested"] in ("ham", "spam")


@pytest.mark.slow
def test_of_wrong_labels_planted_in_r8_four_in_five_are_in_the_top_tenth(tmp_path: Path) -> None:
    table = samples.read("r8")
    text, label = table.columns.index("text"), table.columns.index("label")
    rows = [(row[text] or "", row[label] or "") for row in table.rows]
    rows = list({" ".join(text.split()).casefold(): (text, label) for text, label in rows if text.strip()}.values())
    names = sorted({name for _, name in rows})
    generator = np.random.default_rng(0)
    # A third of them: all take minutes on two cores.
    rows = [rows[i] for i in generator.permutation(len(rows))[:1800]]
    wrong = generator.random(len(rows)) < 0.05
    noisy = [
        (text, names[(names.index(name) + generator.integers(1, len(names))) % len(names)] if is_wrong else name)
        for (text, name), is_wrong in zip(rows, wrong, strict=True)
    ]
    data = write_csv(tmp_path / "noisy.csv", ["text", "label"], noisy)
    model = Classifier("minilm", tune="head", depth=6, pool="mean", max_length=64)
    fit(str(data), model, tmp_path / "model")
    label_errors(tmp_path / "model", str(data), tmp_path / "errors.csv")
    table_of_errors = pd.read_csv(tmp_path / "errors.csv")
    first = set(table_of_errors["text"][: len(table_of_errors) // 10])
    planted = {text for (text, _), is_wrong in zip(noisy, wrong, strict=True) if is_wrong}
    assert len(first & planted) >= 0.8 * len(planted)
