"""A classifier of real text messages: messages that it has not seen are no drift, and messages to newsgroups are."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from rehead import Classifier
from rehead.artifact.artifact import Artifact
from rehead.artifact.loading import load_artifact
from rehead.artifact.predictor import Scores
from rehead.cli import drift as drift_command
from rehead.data import samples
from rehead.drift import workflow
from rehead.drift.detector import Detector, drifted
from rehead.drift.reference import ReferenceProfile
from rehead.workflows.fit import fit
from tests.tiny_texts import write_csv

pytestmark = pytest.mark.slow


class Fitted(NamedTuple):
    folder: Path
    model: Artifact
    unseen: list[str]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """MiniLM on half of the messages; the other half."""
    table = samples.read("sms")
    rows = [tuple(cell or "" for cell in row) for row in table.rows]
    order = np.random.default_rng(1).permutation(len(rows))
    half = len(rows) // 2
    folder = tmp_path_factory.mktemp("sms")
    data = write_csv(folder / "half.csv", table.columns, [rows[i] for i in order[:half]])
    fit(str(data), Classifier("minilm", tune="head"), folder / "model")
    at = max(range(len(table.columns)), key=lambda column: sum(len(row[column]) for row in rows))
    return Fitted(folder / "model", load_artifact(folder / "model"), [rows[i][at] for i in order[half:]])


def test_two_hundred_samples_of_unseen_messages_raise_at_most_four_alarms(fitted: Fitted) -> None:
    fingerprint = ReferenceProfile.beside(fitted.model)
    assert fingerprint is not None
    scores = fitted.model.predictor().scores(fitted.unseen, keep_features=True)
    assert scores.features is not None
    detector, generator = Detector(fingerprint), np.random.default_rng(0)
    alarms = 0
    for _ in range(200):
        rows = generator.choice(len(fitted.unseen), int(generator.integers(100, 501)), replace=False)
        of_rows = Scores(scores.probabilities[rows], scores.tokens_cut[rows], 0.0, scores.features[rows])
        alarms += bool(drifted(detector.measures(fingerprint.observed([fitted.unseen[i] for i in rows], of_rows))))
    assert alarms <= 4


@pytest.mark.parametrize("name", ["20newsgroups", "bbc"])
def test_texts_of_another_kind_are_drift(name: str, fitted: Fitted) -> None:
    table = samples.read(name)
    texts = [text or "" for text in table.column("text")]
    generator = np.random.default_rng(0)
    for n in (100, 300):
        facts = workflow.drift(
            fitted.folder, [texts[i] for i in generator.choice(len(texts), n, replace=False)]
        ).to_json()
        assert facts["drifted"] is True
        for measure in ("length", "vocabulary", "embedding"):
            assert facts["measures"][measure]["drifted"], measure


def test_the_command_takes_a_sample(
    fitted: Fitted, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow, "_MOST", 150)
    options = {"model": str(fitted.folder), "data": "sample:bbc", "text_column": None, "json": True}
    drift_command.run(argparse.Namespace(**options))
    facts = json.loads(capsys.readouterr().out)
    assert facts["n"] == 150
    assert facts["drifted"] is True
