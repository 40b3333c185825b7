"""The API over a real socket: the same answers as the classifier's own, and one shape for all that is refused."""

import asyncio
import base64
import json
import math
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from rehead import Classifier
from rehead.analysis.explanation import explain
from rehead.artifact.loading import load_artifact
from rehead.evaluation.decisions import DecisionConfig
from rehead.serving.settings import RequestLimits
from rehead.workflows.fit import fit
from tests.serving.http_client import Connection, body
from tests.serving.running import counted, process, running
from tests.tiny_images import encoded, image, save_folders
from tests.tiny_texts import messages, write_csv, write_messages
from tests.tiny_vision_models import save_tiny_vision_model

KEY = "0123456789abcdef0123"


@pytest.fixture(scope="module")
def client(spam: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    limits = RequestLimits(body_bytes=100_000, texts=50, characters=2_000)
    with running([spam], tmp_path_factory.mktemp("jobs"), limits=limits) as client:
        yield client


def refused(response: httpx2.Response, status: int, code: str) -> str:
    """Checks that it is refused that way; what is said."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert error["code"] == code
    assert error["request_id"] == response.headers["X-Request-Id"]
    return str(error["message"])


def test_answers_are_the_classifiers_own(client: httpx2.Client, spam: Path) -> None:
    texts, _ = messages(40, start=500)
    loaded = load_artifact(spam)
    expected = loaded.scores(texts).probabilities
    told = client.post("/v1/predict", json={"texts": texts}).json()
    assert told["model"] == "spam"
    assert told["version"] == loaded.manifest.weights_sha256[:12]
    got = np.array([[answer["probabilities"][label] for label in loaded.labels] for answer in told["predictions"]])
    assert np.abs(got - expected).max() < 1e-2
    assert [answer["label"] for answer in told["predictions"]] == [loaded.labels[i] for i in expected.argmax(1)]


def test_one_text_may_be_given_by_itself(client: httpx2.Client) -> None:
    (answer,) = client.post("/v1/predict", json={"texts": "win free cash"}).json()["predictions"]
    assert answer["label"] == "spam"
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_many_clients_at_once_get_each_their_own(client: httpx2.Client, spam: Path) -> None:
    texts, _ = messages(120, start=900)
    labels = [load_artifact(spam).labels[i] for i in load_artifact(spam).scores(texts).probabilities.argmax(1)]

    def ask(number: int) -> str:
        told = client.post("/v1/predict", json={"texts": [texts[number]]}).json()
        return str(told["predictions"][0]["label"])

    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(ask, range(len(texts)))) == labels
    assert counted(client, "rehead_batch_size_count") < counted(client, "rehead_scored_total")


def test_explanation_is_that_of_the_command(client: httpx2.Client, spam: Path) -> None:
    text = "win free 😀 lunch"
    (answer,) = client.post("/v1/predict", json={"texts": text, "explain": True}).json()["predictions"]
    expected = explain(spam, text)
    assert [(piece["start"], piece["end"]) for piece in answer["pieces"]] == [(0, 3), (4, 8), (9, 10), (11, 16)]
    weights = [piece.weight for piece in expected.pieces]
    # A server may compute in bfloat16 where the command does not.
    assert [piece["weight"] for piece in answer["pieces"]] == pytest.approx(weights, abs=0.1)


def test_what_the_model_did_not_see_is_told(client: httpx2.Client) -> None:
    (answer,) = client.post("/v1/predict", json={"texts": "win " * 400}).json()["predictions"]
    assert answer["tokens_cut"] > 0


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ({}, "wrong_kind", 'send "texts"'),
        ({"images": ["abcd"]}, "wrong_kind", 'send "texts"'),
        ({"texts": []}, "invalid_request", "body.texts"),
        ({"texts": ["a"] * 51}, "too_many", "not 51"),
        ({"texts": ["a"] * 9, "explain": True}, "too_many", "8 a request at most where they are explained"),
        ({"texts": ["a", "b" * 2_001]}, "too_long", "texts.1 has 2,001 characters"),
        ({"texts": [1]}, "invalid_request", "body.texts"),
        ({"texts": ["a"], "modle": "spam"}, "invalid_request", "body.modle"),
    ],
)
def test_what_cannot_be_carried_out_says_how_to_mend_it(
    client: httpx2.Client, body: dict[str, Any], code: str, said: str
) -> None:
    assert said in refused(client.post("/v1/predict", json=body), 422, code)


def test_other_refusals_have_the_same_shape(client: httpx2.Client) -> None:
    assert "nothing" in refused(
        client.post("/v1/predict", json={"texts": "a", "model": "nothing"}), 404, "unknown_model"
    )
    refused(client.get("/v1/nowhere"), 404, "not_found")
    wrong = client.get("/v1/predict")
    assert "GET /v1/predict" in refused(wrong, 405, "method_not_allowed")
    assert wrong.headers["Allow"] == "POST"
    broken = client.post("/v1/predict", content=b'{"texts": ', headers={"Content-Type": "application/json"})
    refused(broken, 400, "not_json")
    twice = client.post(
        "/v1/predict", content=b'{"texts": "a", "texts": "secret"}', headers={"Content-Type": "application/json"}
    )
    assert "secret" not in refused(twice, 422, "key_twice")
    half = client.post(
        "/v1/predict", content=b'{"texts": "half \\ud83d"}', headers={"Content-Type": "application/json"}
    )
    assert "texts.0 holds half a character" in refused(half, 422, "not_unicode")


def test_large_bodies_are_refused_before_they_are_read(client: httpx2.Client) -> None:
    refused(client.post("/v1/predict", json={"texts": ["a" * 200_000]}), 413, "too_large")

    def unending() -> Iterator[bytes]:
        for _ in range(1000):
            yield b" " * 1000

    refused(client.post("/v1/predict", content=unending()), 413, "too_large")


def test_clients_that_hang_up_are_not_worked_for(spam: Path, tmp_path: Path) -> None:
    texts = [f"{number} " + "win free cash now " * 100 for number in range(1000)]

    async def hang_up(client: httpx2.Client) -> None:
        address = str(client.base_url).rstrip("/")
        asking, breaking_off = [await Connection.open(address) for _ in range(2)]
        head = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        breaking_off.writer.write(f'{head}Content-Length: 1000\r\n\r\n{{"texts": '.encode())
        await asking.send(body(*texts))
        while not await asyncio.to_thread(counted, client, "rehead_queued_tokens"):
            await asyncio.sleep(0)
        asking.close()
        breaking_off.close()

    # A batch of a text each, so that there is enough to be left over.
    with (
        process(spam, "--jobs", tmp_path / "jobs", "--batch-tokens", 1) as server,
        httpx2.Client(base_url=server.address) as client,
    ):
        asyncio.run(hang_up(client))
        deadline = time.monotonic() + 10
        while counted(client, "rehead_requests_total", status="499") < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert counted(client, "rehead_requests_total", path="/v1/predict", status="499") == 2
        assert counted(client, "rehead_requests_total", path="/v1/predict") == 2
        while counted(client, "rehead_queued_tokens") and time.monotonic() < deadline:
            time.sleep(0.05)
        assert counted(client, "rehead_queued_tokens") == 0
        assert counted(client, "rehead_scored_total") < len(texts)


def test_request_ids_are_given_back_where_they_make_sense(client: httpx2.Client) -> None:
    asked = client.get("/healthz", headers={"X-Request-Id": "mine-1"})
    assert asked.headers["X-Request-Id"] == "mine-1"
    assert client.get("/healthz", headers={"X-Request-Id": "a b\tc"}).headers["X-Request-Id"] != "a b\tc"


def test_pages_of_other_sites_are_not_listened_to(client: httpx2.Client) -> None:
    elsewhere = {"Origin": "https://example.org"}
    refused(client.post("/v1/predict", json={"texts": "a"}, headers=elsewhere), 403, "other_origin")
    own = {"Origin": str(client.base_url).rstrip("/")}
    assert client.post("/v1/predict", json={"texts": "a"}, headers=own).status_code == 200
    refused(client.get("/v1/models", headers={"Host": "example.org"}), 403, "other_host")
    assert "access-control-allow-origin" not in client.get("/healthz").headers


def test_keys_are_asked_for_everywhere_but_where_there_is_nothing_to_see(spam: Path, tmp_path: Path) -> None:
    with running([spam], tmp_path / "jobs", keys=frozenset({KEY, "another-key-of-some-length"})) as client:
        for path in ("/v1/models", "/v1/model", "/v1/model/report", "/metrics", "/v1/files/" + "0" * 24):
            refused(client.get(path), 401, "unknown_key")
        refused(client.post("/v1/predict", json={"texts": "a"}), 401, "unknown_key")
        refused(client.post("/v1/reload", headers={"Authorization": f"Bearer {KEY}x"}), 401, "unknown_key")
        assert client.get("/v1/models").headers["WWW-Authenticate"] == "Bearer"
        for headers in ({"Authorization": f"Bearer {KEY}"}, {"X-API-Key": KEY}):
            assert client.post("/v1/predict", json={"texts": "a"}, headers=headers).status_code == 200
        for path in ("/", "/page.js", "/page.css", "/docs", "/docs.js", "/healthz", "/readyz", "/openapi.json"):
            assert client.get(path).status_code == 200
        told = client.get("/openapi.json").json()["paths"]
        assert not any("security" in told[path]["get"] for path in ("/healthz", "/readyz"))
        assert told["/v1/models"]["get"]["security"]
        # By whatever name it is asked: a key is what counts.
        named = {"Host": "classify.example.org", "X-API-Key": KEY}
        assert client.get("/v1/models", headers=named).status_code == 200


def test_model_is_described(client: httpx2.Client) -> None:
    (listed,) = client.get("/v1/models").json()["models"]
    card = client.get("/v1/model").json()
    assert listed["labels"] == card["labels"] == ["ham", "spam"]
    assert card["test"]["n"] > 0
    assert "spam" in card["card"]
    report = client.get("/v1/model/report")
    assert "<html" in report.text
    assert report.headers["Content-Security-Policy"].startswith("sandbox")


def test_abstention_and_sets_are_answered(base: Path, tmp_path: Path) -> None:
    texts, labels = messages(240)
    noisy = [label if i % 7 else ("ham", "spam")[label == "ham"] for i, label in enumerate(labels)]
    data = write_csv(tmp_path / "data.csv", ["text", "label"], zip(texts, noisy, strict=True))
    model = Classifier(str(base), tune="head", depth=1, pool="mean")
    fit(str(data), model, tmp_path / "unsure", decisions=DecisionConfig(abstain_below=0.999, coverage=0.9))
    with running([tmp_path / "unsure"], tmp_path / "jobs") as client:
        (answer,) = client.post("/v1/predict", json={"texts": "home win"}).json()["predictions"]
    assert answer["label"] is None
    assert isinstance(answer["possible"], list)


def test_several_labels_are_answered(base: Path, tmp_path: Path) -> None:
    texts, labels = messages(80)
    both = [f"{one} {other}" for one, other in zip(texts[::2], texts[1::2], strict=True)]
    rows = [*zip(texts, labels, strict=True), *((text, "ham;spam") for text in both)]
    fit(
        str(write_csv(tmp_path / "data.csv", ["text", "label"], rows)),
        Classifier(str(base), tune="head", depth=2, pool="mean"),
        tmp_path / "several",
    )
    with running([tmp_path / "several"], tmp_path / "jobs") as client:
        told = client.post("/v1/predict", json={"texts": both[:3], "explain": True}).json()["predictions"]
        assert client.get("/v1/model").json()["several_labels"]
    assert all(set(answer["labels"]) <= {"ham", "spam"} for answer in told)
    assert any(answer["labels"] == ["ham", "spam"] for answer in told)
    assert "label" not in told[0]


def test_images_are_classified_and_explained(tmp_path: Path) -> None:
    base = save_tiny_vision_model(tmp_path / "base", "vit")
    fit(str(save_folders(tmp_path / "images")), Classifier(str(base), tune="head"), tmp_path / "stripes")
    shown = [base64.b64encode(encoded(image(kind, 77))).decode() for kind in ("lying", "upright")]
    with running([tmp_path / "stripes"], tmp_path / "jobs") as client:
        told = client.post("/v1/predict", json={"images": shown}).json()["predictions"]
        (explained,) = client.post("/v1/predict", json={"images": shown[0], "explain": True}).json()["predictions"]
        refused(client.post("/v1/predict", json={"images": "not base64"}), 422, "not_base64")
        text = base64.b64encode(b"no image").decode()
        assert "images.0" in refused(client.post("/v1/predict", json={"images": text}), 422, "not_an_image")
        refused(client.post("/v1/predict", json={"texts": "a text"}), 422, "wrong_kind")
        upload = client.post("/v1/files", files={"file": ("a.csv", b"text\na\n")})
        refused(upload, 422, "wrong_kind")
    expected = load_artifact(tmp_path / "stripes").labels
    assert [answer["label"] for answer in told] == list(expected)
    assert np.array(explained["weights"]).shape == (8, 8)
    assert explained["heat_map"].startswith("data:image/png;base64,")
    assert explained["probabilities"] == pytest.approx(told[0]["probabilities"], abs=1e-2)


def test_several_models_share_a_server_and_a_name(spam: Path, spam_of_another_depth: Path, tmp_path: Path) -> None:
    shared = [
        f"mail={spam}@3",
        f"mail={spam_of_another_depth}@1",
        f"other={spam}",
        f"other={spam_of_another_depth}@shadow",
    ]
    with running(shared, tmp_path / "jobs") as client:
        assert "mail, other" in refused(client.post("/v1/predict", json={"texts": "a"}), 422, "which_model")
        versions = [
            client.post("/v1/predict", json={"texts": "win cash", "model": "mail"}).json()["version"]
            for _ in range(200)
        ]
        asked = [client.post("/v1/predict", json={"texts": "win cash", "model": "other"}).json() for _ in range(20)]
        ids = [load_artifact(folder).manifest.weights_sha256[:12] for folder in (spam, spam_of_another_depth)]
        assert 110 < versions.count(ids[0]) < 185  # 150 on average; this far off by chance once in a million
        assert versions.count(ids[0]) + versions.count(ids[1]) == 200
        assert {answer["version"] for answer in asked} == {ids[0]}
        deadline = time.monotonic() + 10
        while counted(client, "rehead_shadow_total") < 20 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert counted(client, "rehead_shadow_total", model="other", version=ids[1]) == 20
        assert counted(client, "rehead_predictions_total", model="mail", label="spam") == 200
        assert counted(client, "rehead_predictions_total", model="other", version=ids[1]) == 20


def test_folders_with_the_same_weights_are_one_version(spam: Path, tmp_path: Path) -> None:
    shutil.copytree(spam, tmp_path / "copy")
    with running([f"mail={spam}", f"mail={tmp_path / 'copy'}"], tmp_path / "jobs") as client:
        client.post("/v1/predict", json={"texts": ["win cash", "home later"]})
        lines = [line.rpartition(" ")[0] for line in client.get("/metrics").text.splitlines() if line[0] != "#"]
    assert len(lines) == len(set(lines))
    assert any(line.startswith("rehead_queued_tokens{") for line in lines)


def test_models_are_replaced_while_requests_come_in(spam: Path, spam_of_another_depth: Path, tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to(spam)
    seen: list[tuple[int, str]] = []
    stopped = threading.Event()

    def ask(client: httpx2.Client) -> None:
        while not stopped.is_set():
            response = client.post("/v1/predict", json={"texts": ["win cash", "home later"]})
            seen.append((response.status_code, response.json().get("version", "")))

    with running([link], tmp_path / "jobs") as client, ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(ask, client) for _ in range(4)]
        try:
            before = client.get("/v1/models").json()["models"][0]["version"]
            (tmp_path / "next").symlink_to(spam_of_another_depth)
            (tmp_path / "next").replace(link)
            after = client.post("/v1/reload").json()["versions"]["current"][0]
            (tmp_path / "next").symlink_to(tmp_path)
            (tmp_path / "next").replace(link)
            assert "stay as they were" in refused(client.post("/v1/reload"), 422, "not_loaded")
            assert client.post("/v1/predict", json={"texts": "win"}).json()["version"] == after
        finally:
            stopped.set()
        for each in asking:
            each.result()
    assert before != after
    assert {status for status, _ in seen} == {200}
    assert {version for _, version in seen} == {before, after}


def test_server_obeys_signals_and_logs_no_text(spam: Path, spam_of_another_depth: Path, tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to(spam)
    with process(link, "--jobs", tmp_path / "jobs") as server, httpx2.Client(base_url=server.address) as client:
        assert client.post("/v1/predict", json={"texts": "a secret text"}).status_code == 200
        (tmp_path / "next").symlink_to(spam_of_another_depth)
        (tmp_path / "next").replace(link)
        before = client.get("/v1/models").json()["models"][0]["version"]
        server.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 30
        while client.get("/v1/models").json()["models"][0]["version"] == before and time.monotonic() < deadline:
            time.sleep(0.05)
        assert client.get("/v1/models").json()["models"][0]["version"] != before
        client.close()
        assert server.end(signal.SIGTERM) == 0
        time.sleep(0.2)
    events = [entry["event"] for entry in server.log]
    assert "reloaded" in events
    assert events[-1] == "stopped"
    request = next(entry for entry in server.log if entry.get("path") == "/v1/predict")
    assert request["status"] == 200
    assert request["inputs"] == 1
    assert request["milliseconds"] > 0
    assert "secret" not in json.dumps(server.log)


def test_texts_are_logged_where_that_is_asked_for(spam: Path, tmp_path: Path) -> None:
    with process(spam, "--jobs", tmp_path / "jobs", "--log-texts") as server:
        httpx2.post(f"{server.address}/v1/predict", json={"texts": "for the log"})
        server.end(signal.SIGTERM)
        time.sleep(0.2)
    assert any(entry.get("texts") == ["for the log"] for entry in server.log)


def test_mistakes_at_the_start_are_one_line(spam: Path, tmp_path: Path, in_process: Any) -> None:
    code, _, said = in_process("serve", tmp_path / "nothing")
    assert (code, "no such folder" in said) == (2, True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, said = in_process("serve", spam, "--port", taken.getsockname()[1], "--jobs", tmp_path / "jobs")
    assert (code, "another --host or --port" in said) == (2, True)
    code, _, said = in_process("serve", spam, "--host", "0.0.0.0")  # noqa: S104
    assert (code, "REHEAD_API_KEYS" in said) == (2, True)


def test_metrics_are_prometheus(client: httpx2.Client) -> None:
    client.post("/v1/predict", json={"texts": ["win", "home"]})
    assert counted(client, "rehead_requests_total", path="/v1/predict", status="200") >= 1
    assert counted(client, "rehead_scored_total", model="spam") >= 2
    assert math.isfinite(counted(client, "rehead_queued_tokens", model="spam"))
    assert client.get("/metrics").headers["Content-Type"].startswith("text/plain")


def test_files_that_are_sent_are_counted_as_sent(client: httpx2.Client) -> None:
    for path in ("/", "/page.js", "/v1/model/report"):
        before = counted(client, "rehead_requests_total", path=path, status="200")
        assert client.get(path).status_code == 200
        deadline = time.monotonic() + 10
        while counted(client, "rehead_requests_total", path=path) <= before and time.monotonic() < deadline:
            time.sleep(0.01)  # it is counted when the file has been closed
        assert counted(client, "rehead_requests_total", path=path, status="200") == before + 1


def test_ngrams_without_a_network_are_served(tmp_path: Path) -> None:
    data = write_messages(tmp_path / "messages.csv", n=120)
    fit(str(data), Classifier("tfidf"), tmp_path / "words")
    expected = load_artifact(tmp_path / "words").scores(["win a free prize"]).probabilities[0]
    with running([tmp_path / "words"], tmp_path / "jobs") as client:
        (answer,) = client.post("/v1/predict", json={"texts": ["win a free prize"], "explain": True}).json()[
            "predictions"
        ]
        assert list(answer["probabilities"].values()) == pytest.approx(expected.tolist(), abs=1e-6)
        assert {piece["weight"] > 0 for piece in answer["pieces"]} >= {True}
        (told,) = client.get("/v1/models").json()["models"]
        assert (told["base"], told["depth"], told["pool"], told["max_length"]) == ("tfidf", None, None, None)
        assert told["drift"]["n"] == 1
