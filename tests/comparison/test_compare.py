"""`rehead compare` from end to end on tiny models: every approach, the table, resuming, what it writes."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rehead
from rehead.comparison import approaches
from rehead.comparison.approaches import ComparisonTask, Learned
from rehead.comparison.trial import title
from rehead.runtime.errors import ArtifactError, DataError, SettingError
from tests.instruction.tiny_language_models import save_tiny_language_model
from tests.tiny_models import save_tiny_model
from tests.tiny_texts import messages, write_csv, write_messages

TEMPLATE = (
    "{% for message in messages %}<s> {{ message['content'] }}</s> {% endfor %}{% if add_generation_prompt %}<s> "
    "{% endif %}"
)
KEYS = (
    "data labels rows n_train bases budget seed approaches cheap curve_sizes recommended reasons not_tried versions "
    "seconds peak_rss_bytes report"
)
ROW_KEYS = (
    "accuracy accuracy_ci cached_seconds curve enough lost_by macro_f1 macro_f1_ci megabytes milliseconds n n_learned "
    "name new_label_recall notices_other_subjects outside p_value seconds takes_new_labels tflops title"
)
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def bases(tmp_path: Path) -> list[str]:
    decoder = save_tiny_language_model(tmp_path / "decoder", "llama", template=TEMPLATE, reach=512)
    return [str(decoder), str(save_tiny_model(tmp_path / "encoder", "bert"))]


@pytest.fixture
def data(tmp_path: Path) -> str:
    return str(write_messages(tmp_path / "messages.csv", 240))


def test_every_approach_is_in_the_table(bases: list[str], data: str, tmp_path: Path) -> None:
    result = rehead.compare(data, bases=bases, output=tmp_path / "out")
    facts = json.loads(json.dumps(result.to_json()))
    rows = {row["name"]: row for row in facts["approaches"]}
    expected = {"majority", "tfidf", "zero-shot", "few-shot", "last-1", "lora", "full", "instruction"}
    assert rows.keys() == expected | {f"probe:{base}" for base in bases}
    assert facts["not_tried"].keys() == {"setfit"}
    assert rows["tfidf"]["accuracy"] == 1.0
    assert facts["cheap"] == facts["recommended"] == "tfidf"
    assert facts["reasons"][0].startswith(
        "Use TF-IDF of words and characters + logistic regression: none of the others is better"
    )
    assert " ".join(facts) == KEYS
    for name, row in rows.items():
        assert " ".join(sorted(row)) == ROW_KEYS
        assert row["accuracy_ci"][0] <= row["accuracy"] <= row["accuracy_ci"][1]
        assert row["takes_new_labels"] is (name in ("zero-shot", "few-shot", "instruction"))
        assert (row["outside"] is None) is not row["takes_new_labels"]
        assert (row["lost_by"] is None) is row["takes_new_labels"]
    assert rows["tfidf"]["enough"] is not None
    assert rows["tfidf"]["lost_by"]["capitals"] == 0.0
    assert len(rows["tfidf"]["curve"]) == len(facts["curve_sizes"]) == len(rows[f"probe:{bases[1]}"]["curve"])
    assert rows["full"]["tflops"] > rows[f"probe:{bases[0]}"]["tflops"] > 0
    assert rows["zero-shot"]["n_learned"] == 0 < rows["few-shot"]["n_learned"] <= 4
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert "instruction-tuned" in page
    assert json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8")) == facts


def test_comparison_that_was_broken_off_goes_on(
    bases: list[str], data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[str] = []
    honest = approaches.tfidf

    def broken_off(task: ComparisonTask) -> Learned:
        learned.append("tfidf")
        if learned.count("tfidf") == 1:
            raise KeyboardInterrupt
        return honest(task)

    monkeypatch.setattr(approaches, "tfidf", broken_off)
    counted = approaches.majority
    monkeypatch.setattr(approaches, "majority", lambda task: learned.append("majority") or counted(task))
    arguments: dict[str, Any] = {"names": ["majority", "tfidf"], "bases": bases, "output": tmp_path / "out"}
    with pytest.raises(KeyboardInterrupt):
        rehead.compare(data, **arguments)
    result = rehead.compare(data, **arguments, resume=True)
    assert learned == ["majority", "tfidf", "tfidf"]
    assert [row.name for row in result.approaches] == ["majority", "tfidf"]
    assert [path.name for path in tmp_path.iterdir() if "rehead-run" in path.name] == []


def test_a_kept_result_that_is_damaged_is_measured_again(
    bases: list[str], data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    arguments: dict[str, Any] = {"names": ["majority", "tfidf"], "bases": bases, "output": tmp_path / "out"}
    with monkeypatch.context() as patch:
        patch.setattr(approaches, "tfidf", lambda task: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            rehead.compare(data, **arguments)
    (kept,) = (tmp_path / ".out.rehead-run").glob("*.json")
    undisturbed = json.loads(kept.read_text())["macro_f1"]
    kept.write_text(kept.read_text().replace('"macro_f1": 0', '"macro_f1": 1'))
    assert json.loads(kept.read_text())["macro_f1"] != undisturbed
    result = rehead.compare(data, **arguments, resume=True)
    assert result.approaches[0].macro_f1 == undisturbed
    assert f"{kept}, the result of" in caplog.text


def test_what_does_not_fit_into_the_budget_is_told(
    bases: list[str], data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approaches, "expected_seconds", lambda *_: 1e6)
    monkeypatch.setattr(approaches, "_ASKED_AT_LEAST", 10**6)
    monkeypatch.setattr(approaches, "forward_flops", lambda *_: 1e18)
    result = rehead.compare(data, names=["tfidf", "full", "zero-shot", "instruction"], bases=bases)
    assert [row.name for row in result.approaches] == ["tfidf"]
    assert re.fullmatch(
        r"would take about \d{7,} s, and (5\d\d|600) s of the budget are left", result.not_tried["full"]
    )
    assert "s a text are too many" in result.not_tried["zero-shot"]
    assert "s an example are too many" in result.not_tried["instruction"]


def test_all_approaches_learn_from_as_many_examples_as_are_asked_for(bases: list[str], data: str) -> None:
    result = rehead.compare(data, names=["tfidf", "probe", "last-1"], bases=bases[1:], n_examples=40)
    assert result.n_train == 40
    assert [row.n_learned for row in result.approaches] == [40, 40, 40]
    assert result.curve_sizes[-1] == 40
    with pytest.raises(SettingError, match="`n_examples` must be 20 or more"):
        rehead.compare(data, bases=bases, n_examples=5)


def test_command_prints_the_table(bases: list[str], data: str, tmp_path: Path, in_process: Command) -> None:
    arguments = ["compare", data, "--approaches", "majority,tfidf,probe", "--base", ",".join(bases)]
    code, out, _ = in_process(*arguments, "-o", tmp_path / "out")
    assert code == 0
    assert "TF-IDF of words and characters + logistic regression" in out
    assert "probe, encoder" in out
    assert "Use TF-IDF" in out
    code, out, _ = in_process(*arguments, "-o", tmp_path / "out", "--json")
    assert code == 0
    assert json.loads(out)["recommended"] == "tfidf"


def test_mistakes_are_told(bases: list[str], data: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="'magic' is none of majority, tfidf"):
        rehead.compare(data, names=["magic"], bases=bases)
    with pytest.raises(SettingError, match="leave majority or tfidf in"):
        rehead.compare(data, names=["probe"], bases=bases)
    texts, labels = messages(60)
    rows = zip(texts, (f"{label};b" if i % 3 else label for i, label in enumerate(labels)), strict=True)
    tagged = write_csv(tmp_path / "tagged.csv", ["text", "label"], rows)
    with pytest.raises(DataError, match="one label each"):
        rehead.compare(str(tagged), bases=bases)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("precious")
    with pytest.raises(ArtifactError, match="is no comparison"):
        rehead.compare(data, names=["tfidf"], bases=bases, output=tmp_path / "full")


def test_the_first_decoder_is_asked(bases: list[str], data: str) -> None:
    result = rehead.compare(data, names=["tfidf", "zero-shot", "last-1"], bases=bases[::-1])
    assert [row.name for row in result.approaches] == ["tfidf", "zero-shot", "last-1"]
    result = rehead.compare(data, names=["tfidf", "zero-shot"], bases=bases[1:])
    assert result.not_tried == {"zero-shot": "none of the bases is a language model"}


def test_titles_name_the_base(bases: list[str]) -> None:
    assert title(f"probe:{bases[1]}") == "probe, encoder"
