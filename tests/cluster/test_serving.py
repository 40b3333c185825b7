"""`rehead serve --on ray`: the API of the server over a real socket."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from rehead import Classifier
from rehead.cluster.connection import connected, require_ray
from rehead.cluster.serving import deployed
from rehead.runtime.errors import ArtifactError, SettingError
from rehead.serving.models import ModelSource
from rehead.serving.settings import ServerSettings
from rehead.workflows.fit import fit
from tests.tiny_models import save_tiny_model
from tests.tiny_texts import write_messages

KEY = "k" * 24


@pytest.mark.slow
def test_a_replica_answers_as_the_server_does_and_ends_with_the_command(tmp_path: Path) -> None:
    try:
        require_ray("ray")
    except SettingError as error:
        pytest.skip(str(error))
    base = save_tiny_model(tmp_path / "base", "llama")
    data = write_messages(tmp_path / "messages.csv", n=120)
    fit(str(data), Classifier(str(base), tune="head", depth=2, pool="mean"), tmp_path / "spam")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "rehead.cli", "serve", "spam", "--on", "ray", "--port", str(port)]
    server = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=os.environ | {"REHEAD_API_KEYS": KEY}
    )
    try:
        assert server.stderr is not None
        lines = (line for line in server.stderr if line.startswith("{"))
        listening = next((json.loads(line) for line in lines), None)
        assert listening
        assert (listening["event"], listening["address"]) == ("listening", f"http://127.0.0.1:{port}")
        text = "free prize call now"
        with httpx2.Client(base_url=listening["address"], timeout=60, headers={"X-API-Key": KEY}) as client:
            answer = client.post("/v1/predict", json={"texts": [text]})
            assert answer.status_code == 200, answer.text
            (prediction,) = answer.json()["predictions"]
            expected = Classifier.load(tmp_path / "spam").predict_proba([text])[0]
            assert list(prediction["probabilities"].values()) == pytest.approx(list(expected), abs=2e-2)
            assert prediction["label"] == "spam"
            assert client.get("/readyz").status_code == 200
            assert client.post("/v1/files").status_code == 404
            assert client.post("/v1/predict", json={"texts": 1}).status_code == 422
            assert client.post("/v1/predict", json={"texts": [text]}, headers={"X-API-Key": "no"}).status_code == 401
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=120) == 0
        with socket.socket() as nobody:
            assert nobody.connect_ex(("127.0.0.1", port)) != 0
    finally:
        server.kill()


@pytest.mark.slow
def test_a_folder_that_is_no_classifier_is_refused(cluster: None, tmp_path: Path) -> None:
    with connected("ray"), pytest.raises(ArtifactError, match=str(tmp_path)):  # noqa: SIM117
        with deployed([ModelSource("spam", tmp_path, 1.0)], ServerSettings(port=1), replicas=1):
            pass
