"""What is printed: plurals, columns, and nothing that a terminal would act on."""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rehead.classifier import Classifier
from rehead.cli import compare, evaluation_view, fit, main, predict, terminal
from rehead.data.audit import Finding
from rehead.runtime.wording import counted, escaped
from rehead.training.estimate import Plan
from rehead.workflows.fit import fit as fit_here
from rehead.workflows.results import FitPlan, FitResult, Rows
from tests.cli.running import Finished
from tests.tiny_texts import messages

HOSTILE = "\x1b[31mred\x07\x9b2J\u202egnp.exe"
ESCAPED = r"\x1b[31mred\x07\x9b2J\u202egnp.exe"


def write_lines(path: Path, rows: list[tuple[str, str]]) -> Path:
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
    return path


def test_numbers_have_their_nouns() -> None:
    assert [counted(n, "row") for n in (0, 1, 2, 1200)] == ["0 rows", "1 row", "2 rows", "1,200 rows"]


def test_control_characters_are_escaped() -> None:
    assert escaped(HOSTILE) == ESCAPED
    assert escaped("a\r\nb\tc") == r"a\r\nb\tc"
    assert escaped("a\nb\x1b", keep="\n") == "a\nb\\x1b"


@pytest.mark.parametrize("text", ["Grüße, 世界", "👩\u200d👩\u200d👧 und می\u200cخواهم", "non\u00a0breaking", ""])
def test_what_is_only_written_stays(text: str) -> None:
    assert escaped(text) == text


def test_a_long_text_is_shortened_to_one_harmless_line() -> None:
    assert terminal.shortened(f"a\n\tb {HOSTILE}") == f"a b {ESCAPED}"
    assert len(terminal.shortened("word " * 100)) == 100


def test_columns_are_aligned_by_their_width_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.print_aligned([("a", "1", "x"), ("世界", "200", f"y{HOSTILE} {'z' * 200}")])
    first, second = capsys.readouterr().out.splitlines()
    assert first == "a     1    x"
    assert second == f"世界  200  y{ESCAPED} {'z' * 200}"


def test_texts_that_are_classified_cannot_change_the_terminal(rehead: Callable[..., Finished], model: Path) -> None:
    assert rehead("predict", model, f"win {HOSTILE}").out.endswith(f"\twin {ESCAPED}\n")


def test_labels_and_rows_of_an_audit_cannot_change_the_terminal(
    rehead: Callable[..., Finished], tmp_path: Path
) -> None:
    rows = [(f"text {i} {HOSTILE}", HOSTILE if i % 2 else "[bold]plain") for i in range(20)]
    rows.append((rows[0][0], HOSTILE))
    finished = rehead("inspect", write_lines(tmp_path / "data.jsonl", rows))
    assert finished.code == 0
    assert ESCAPED in finished.out
    assert "[bold]plain" in finished.out
    for shown in (finished.out, finished.err):
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(shown)


def test_a_files_name_in_an_error_cannot_change_the_terminal(rehead: Callable[..., Finished]) -> None:
    finished = rehead("inspect", f"{HOSTILE}.csv")
    assert finished.code == 2
    assert f"{ESCAPED}.csv: no such file" in finished.err
    assert "\x1b" not in finished.err


def test_closed_streams_are_no_fault(rehead: Callable[..., Finished], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert rehead("predict", "nowhere", "-").code == 2
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SystemExit) as ended:
        main(["bases"])
    assert ended.value.code == 0


def test_json_is_not_escaped_twice(rehead: Callable[..., Finished], tmp_path: Path) -> None:
    rows = [(f"text {i}", HOSTILE if i % 2 else "b") for i in range(20)]
    result = rehead("inspect", write_lines(tmp_path / "data.jsonl", rows), "--json").json
    assert HOSTILE in result["classes"]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, decoder: Path) -> FitResult:
    """Of a real fit, with a hostile label."""
    folder = tmp_path_factory.mktemp("terminal")
    texts, labels = messages(60)
    rows = [(text, HOSTILE if label == "spam" else "b") for text, label in zip(texts, labels, strict=True)]
    data = write_lines(folder / "data.jsonl", rows)
    model = Classifier(str(decoder), tune="head", depth=1, pool="mean")
    return fit_here(str(data), model, folder / "my model")


def test_arithmetic_is_shown_to_who_asks_for_it(result: FitResult, capsys: pytest.CaptureFixture[str]) -> None:
    result = replace(result, training=replace(result.training, flops=2e12, gflops=80.0, peak_share=0.5))
    evaluation_view.print_evaluation(result, verbose=False)
    out = capsys.readouterr().out
    assert f"accuracy on {result.evaluation.test.n} test texts, 95 % interval" in out
    assert ESCAPED in out
    assert "FLOP" not in out
    evaluation_view.print_evaluation(result, verbose=True)
    out = capsys.readouterr().out
    assert "2.00 TFLOP" in out
    assert "80 GFLOP/s, 50% of" in out


@pytest.mark.parametrize("verbose", [False, True])
def test_a_plan_counts_operations_for_who_asks_for_it(capsys: pytest.CaptureFixture[str], verbose: bool) -> None:
    rows = Rows(read=1020, used=1020, train=1000, validation=10, test=10, dropped={}, dropped_lines={})
    takes = Plan(
        tokens=5, seconds=3.0, peak_memory_bytes=10**9, features_bytes=10**6, trunk_flops=1e12, training_flops=2e12
    )
    fit._print_plan(FitPlan(data="data", base="minilm", tune="head", rows=rows, estimate=takes), verbose)
    out = capsys.readouterr().out
    assert "1,000 training, 10 validation, 10 test examples" in out
    assert "5 tokens: about 3 seconds, 1.0 GB of memory and 1 MB of features" in out
    assert ("3.0 TFLOP, of which 2.0 training" in out) == verbose


def test_what_to_do_next_can_be_copied(result: FitResult, capsys: pytest.CaptureFixture[str]) -> None:
    evaluation_view.print_saved(result)
    *_, report, last = capsys.readouterr().out.splitlines()
    assert report == f"report  {result.folder}/report.html"
    assert last == f"next    rehead predict '{result.folder}' \"a text\""
    evaluation_view.print_saved(replace(result, evaluation=replace(result.evaluation, what="images")))
    assert capsys.readouterr().out.splitlines()[-1].endswith(" an-image.png")


@pytest.mark.parametrize(
    ("kind", "one", "several"),
    [
        ("test texts in the training data", "1 test text in the training data", "2 test texts in the training data"),
        ("rows with no text", "1 row with no text", "2 rows with no text"),
        ("texts that are cut off", "1 text that is cut off", "2 texts that are cut off"),
        (
            "near duplicates with contradicting labels",
            "1 near duplicate with contradicting labels",
            "2 near duplicates w",
        ),
        ("classes with few examples", "1 class with few examples", "2 classes with few examples"),
        ("shortcut", "shortcut in 1 row", "shortcut in 2 rows"),
    ],
)
def test_findings_are_counted_in_words(kind: str, one: str, several: str) -> None:
    assert Finding("note", kind, 1, [], "").title.startswith(one)
    assert Finding("note", kind, 2, [], "").title.startswith(several)


def test_stages_are_shown_to_who_asks_for_them(result: FitResult, capsys: pytest.CaptureFixture[str]) -> None:
    lines = {}
    for verbose in (False, True):
        evaluation_view.print_evaluation(result, verbose)
        lines[verbose] = next(line for line in capsys.readouterr().out.splitlines() if "of memory at most" in line)
    assert lines[False].startswith(f"{result.seconds['total']:.1f} seconds, ")
    assert "(load " in lines[True]


def test_an_audit_ends_with_what_to_do_next(rehead: Callable[..., Finished], data: Path, tmp_path: Path) -> None:
    last = rehead("inspect", data, "--text-column", "text").out.splitlines()[-1]
    assert last == f"next    rehead fit {data} --text-column text"
    leaking = rehead("inspect", data, "--test", data).out.splitlines()[-1]
    assert leaking == f"next    mend the errors, then rehead fit {data} --test {data}"


def test_a_comparison_ends_with_the_fit_that_it_recommends(
    rehead: Callable[..., Finished], data: Path, decoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    finished = rehead(
        *("compare", data, "--approaches", "tfidf,probe", "--model", decoder, "--examples", "40"),
        *("--label-column", "label", "-o", tmp_path / "out"),
    )
    assert finished.code == 0, finished.err
    assert "…" not in finished.out
    assert finished.out.splitlines()[-1] == f"next    rehead fit {data} --label-column label --model tfidf"


@pytest.mark.parametrize(
    ("recommended", "options"),
    [
        ("probe:minilm", ["--model", "minilm", "--strategy", "head"]),
        ("lora", ["--model", "smollm2", "--strategy", "lora"]),
        ("zero-shot", []),
        ("majority", []),
    ],
)
def test_what_is_recommended_is_a_fit_where_fit_makes_it(recommended: str, options: list[str]) -> None:
    assert compare._settings_of_fit(recommended, ("smollm2", "minilm")) == options


@pytest.mark.parametrize(
    ("label", "probabilities", "shown"),
    [
        ("ham", {"ham": 0.6, "spam": 0.4}, ", or spam 0.4000"),
        ("ham", {"ham": 0.7, "spam": 0.3}, ""),
        ("spam", {"ham": 0.6, "spam": 0.4}, ", or ham 0.6000"),
        (None, {"ham": 0.6, "spam": 0.4}, " (ham), or spam 0.4000"),
        (None, {"ham": 0.7, "spam": 0.3}, " (ham)"),
        ("ham", {"ham": 0.5, "spam": 0.3, HOSTILE: 0.2}, ", or spam 0.3000"),
    ],
)
def test_a_second_label_that_is_close_is_shown(label: str | None, probabilities: dict[str, float], shown: str) -> None:
    assert predict._close_second({"label": label, "probabilities": probabilities}) == shown


def test_a_second_label_is_for_terminals_alone(
    rehead: Callable[..., Finished], model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "_CLOSE", 0.0)
    assert ", or " not in rehead("predict", model, "win free cash").out
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert re.search(r"\t[01]\.\d{4}, or \w+ 0\.\d{4}\twin free cash$", rehead("predict", model, "win free cash").out)
