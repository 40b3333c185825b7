"""`rehead explain`: the words that an answer rests on."""

from collections.abc import Callable
from pathlib import Path

from tests.cli.running import Finished


def test_explain_tells_the_weight_of_each_word_and_similar_examples(
    rehead: Callable[..., Finished], model: Path, data: Path
) -> None:
    facts = rehead("explain", model, "win free lunch", "--data", data, "--json").json
    assert [piece["text"] for piece in facts["pieces"]] == ["win", "free", "lunch"]
    assert facts["label"] in ("ham", "spam")
    assert len(facts["neighbours"]) == 5
    finished = rehead("explain", model, "win free lunch", "--data", data)
    assert "win free lunch" in finished.out
    assert "similarity" in finished.out
