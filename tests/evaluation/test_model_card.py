"""A model card is one that the hub reads, says what was measured, and shows whatever labels hold as text."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard, ModelCardData
from markdown_it import MarkdownIt

from rehead import Classifier
from rehead.data import audit, samples
from rehead.data.preparation import DataConfig
from rehead.evaluation.model_card import plain, render_model_card
from rehead.models.registry import CATALOGUE
from rehead.workflows.fit import fit
from rehead.workflows.results import FitResult
from tests.tiny_models import save_tiny_model
from tests.tiny_texts import messages, write_csv

SCRIPT = "<script>alert('spam & co')</script>"
NAMES = {"spam": SCRIPT, "ham": 'ham | "eggs" [x](http://x) ![](http://y) `a` **b**\n# c'}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    """Of a real fit whose labels and file name are hostile."""
    folder = tmp_path_factory.mktemp("card")
    rows = [(text, NAMES[label]) for text, label in zip(*messages(60), strict=True)]
    data = write_csv(folder / "messages <1>.csv", ["text", "label"], rows)
    base = str(save_tiny_model(folder / "base", "llama"))
    return fit(DataConfig(str(data)), Classifier(base, tune="head", depth=2), folder / "model")


def card_of(
    result: FitResult, transformers_class: str | None = None, languages: tuple[str, ...] = (), **settings: Any
) -> str:
    changed = replace(result, settings=replace(result.settings, **settings))
    return render_model_card(changed.to_json(), transformers_class, languages)


def data_of(card: str) -> ModelCardData:
    """What the hub's own library reads of it."""
    return ModelCard(card).data


def test_the_saved_card_is_one_of_the_hubs(result: FitResult) -> None:
    assert result.folder is not None
    card = ModelCard.load(Path(result.folder) / "README.md")
    data, test = card.data, result.evaluation.test
    assert (data.library_name, data.pipeline_tag) == ("rehead", "text-classification")
    assert data.tags == ["text-classification", "rehead"]
    assert data.metrics == ["accuracy", "f1"]
    assert data.model_name == "messages <1>.csv"
    found = {entry.metric_type: entry.metric_value for entry in data.eval_results}
    assert found == pytest.approx({"accuracy": test.accuracy, "f1": test.macro_f1}, abs=1e-6)
    assert {entry.dataset_type for entry in data.eval_results} == {"messages-1-.csv"}
    # Of a folder here nobody else knows the name or the licence.
    assert not {"license", "base_model", "datasets"} & set(data.to_dict())
    assert str(Path(result.folder).parent) not in str(card)


@pytest.mark.parametrize("base", [name for name, entry in CATALOGUE.items() if entry.hub])
def test_base_and_licence_are_those_of_the_catalogue(result: FitResult, base: str) -> None:
    data = data_of(card_of(result, base=base))
    assert data.base_model == CATALOGUE[base].hub
    assert data.license == ("mit" if base == "multilingual-e5-small" else "apache-2.0")


@pytest.mark.parametrize(
    ("base", "on_the_hub"), [("someone/model", "someone/model"), ("/a/folder", None), ("a.gguf", None), ("tfidf", None)]
)
def test_base_is_named_where_the_hub_has_it(result: FitResult, base: str, on_the_hub: str | None) -> None:
    data = data_of(card_of(result, base=base))
    assert data.get("base_model") == on_the_hub
    assert "license" not in data.to_dict()


def test_a_sample_is_named_as_the_hub_has_it(result: FitResult) -> None:
    assert samples.dataset_on_the_hub("sample:sms") == "ucirvine/sms_spam"
    assert samples.dataset_on_the_hub("sms") is samples.dataset_on_the_hub("sample:none") is None
    data = data_of(render_model_card(result.to_json(), None, dataset="ucirvine/sms_spam"))
    assert data.datasets == ["ucirvine/sms_spam"]
    assert data.eval_results[0].dataset_type == "ucirvine/sms_spam"


def test_languages_are_those_of_the_texts_and_guessed_once(
    result: FitResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guessed = []
    guess = audit.languages_of
    monkeypatch.setattr(audit, "languages_of", lambda texts, seed: guessed.append(texts) or guess(texts, seed))
    assert data_of(card_of(result, languages=("de", "en"))).language == ["de", "en"]
    words = ["das", "der", "die", "und", "nicht", "eine", "über", "gestern", "morgen", "Straße", "Wetter", "Brot"]
    words += ["kaufen", "müssen", "schön", "wieder", "zwischen", "während", "vielleicht", "Bürger", "laufen", "heute"]
    draw = np.random.default_rng(0)
    rows = [(f"{' '.join(draw.choice(words, 12))} {label}", label) for label in ("Regen", "Sonne") * 40]
    data = write_csv(tmp_path / "data.csv", ["text", "label"], rows)
    fit(DataConfig(str(data)), Classifier("tfidf"), tmp_path / "model")
    assert ModelCard.load(tmp_path / "model" / "README.md").data.language == ["de"]
    assert len(guessed) == 1


def test_a_transformers_model_says_so(result: FitResult) -> None:
    card = card_of(result, "AutoModelForSequenceClassification")
    assert "transformers" in data_of(card).tags
    assert "from transformers import pipeline" in card
    assert "AutoModelForSequenceClassification" in card
    assert "from transformers import pipeline" not in card_of(result)


def test_ngrams_beside_the_head_are_named(result: FitResult) -> None:
    card = card_of(result, pool="last", baseline_factor=0.412)
    assert "Word and character n-grams stand beside the head (factor 0.41)" in card
    assert "rehead fit --no-ngrams" in card


@pytest.mark.parametrize("name", ["a: b.csv", 'it\'s "quoted".csv', "- #1.csv", "back\\slash.csv", "ünï.csv", "yes"])
def test_header_holds_any_name_of_the_data(result: FitResult, name: str) -> None:
    assert data_of(card_of(replace(result, data=name))).eval_results[0].dataset_name == name


def test_labels_are_shown_as_text(result: FitResult) -> None:
    page = MarkdownIt("gfm-like", {"linkify": False}).render(ModelCard(card_of(result)).text)
    for tag in ("<script", "<img", "<a ", "<strong>b", "<h1>c"):
        assert tag not in page
    assert "&lt;script&gt;alert('spam &amp; co')&lt;/script&gt;" in page
    assert page.count("<td>ham |") == 1


@pytest.mark.parametrize("text", ["a_b", "1 * 2", "<b>", "[a](b)", "a|b", "~~a~~", "&lt;", "back\\slash", "`a`"])
def test_plain_text_stays_what_it_is(text: str) -> None:
    page = MarkdownIt("gfm-like", {"linkify": False}).render(f"said: {plain(text)}")
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    assert page == f"<p>said: {escaped}</p>\n"


def test_what_turns_the_direction_of_writing_is_written_out() -> None:
    assert plain("\u202eabc\u200d") == r"\\u202eabc" + "\u200d"


def test_table_has_as_many_cells_in_each_row(result: FitResult) -> None:
    card = card_of(result)
    rows = card[card.index("| class |") :].split("\n\n")[0].splitlines()
    assert len(rows) == 4
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {6}


def test_what_was_not_tested_has_a_card_that_says_so(bases: Callable[[str], str], tmp_path: Path) -> None:
    Classifier(bases("bert"), ngrams=False, tune="head", depth=1, pool="cls").fit(*messages(40)).save(
        tmp_path / "model"
    )
    card = ModelCard.load(tmp_path / "model" / "README.md")
    assert card.data.library_name == "rehead"
    assert card.data.eval_results is None
    assert "It has not been tested" in card.text
    assert "AutoModelForSequenceClassification" in card.text


def test_a_card_that_was_taken_away_is_written_anew_with_what_was_measured(result: FitResult, tmp_path: Path) -> None:
    assert result.folder is not None
    before = (Path(result.folder) / "README.md").read_text()
    (Path(result.folder) / "README.md").unlink()
    Classifier.load(result.folder).save(tmp_path / "again")
    (Path(result.folder) / "README.md").write_text(before)
    found = ModelCard.load(tmp_path / "again" / "README.md").data.eval_results
    assert found == ModelCard(before).data.eval_results
