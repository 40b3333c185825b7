"""The house's own rules, checked on its source."""

import re
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src" / "rehead"


def test_nothing_is_pickled_and_no_remote_code_is_run() -> None:
    for path in SOURCE.rglob("*.py"):
        text = path.read_text()
        assert not re.search(
            r"\bimport (pickle|joblib|dill)\b|trust_remote_code=True|torch\.load\((?!.*weights_only=True\))", text
        ), path


def test_the_source_stays_within_its_budget_of_lines() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in SOURCE.rglob("*.py")}
    assert sum(lengths.values()) <= 26_500, lengths  # to be lowered whenever it can be


def test_every_module_says_what_it_holds() -> None:
    for path in SOURCE.rglob("*.py"):
        assert path.read_text().startswith('"""'), path


def test_public_names_are_what_they_are_in_any_order() -> None:
    import rehead

    assert callable(rehead.evaluate)
    assert callable(rehead.fit)
    assert callable(rehead.fit)
    for name in rehead.__all__:
        assert callable(getattr(rehead, name)), name
