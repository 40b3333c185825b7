"""Files: uploaded, scored, downloaded; and what becomes of them when the server goes down."""

import csv
import io
import json
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pandas as pd
import pytest

from rehead.artifact.loading import load_artifact
from rehead.runtime.errors import DataError, Interrupted, SettingError
from rehead.serving.jobs import Job, Jobs
from rehead.serving.settings import RequestLimits
from tests.serving.running import counted, process, running
from tests.tiny_texts import messages


def table(n: int, start: int = 0) -> bytes:
    """A CSV file with a column beside the texts."""
    texts, _ = messages(n, start)
    file = io.StringIO()
    csv.writer(file).writerows([("number", "text"), *enumerate(texts)])
    return file.getvalue().encode()


def finished(client: httpx2.Client, job: dict[str, Any], seconds: float = 60) -> dict[str, Any]:
    """The job when it has ended."""
    deadline = time.monotonic() + seconds
    while job["state"] in ("waiting", "running") and time.monotonic() < deadline:
        time.sleep(0.05)
        job = client.get(f"/v1/files/{job['id']}").json()
    return job


def upload(client: httpx2.Client, content: bytes, name: str = "mail.csv", **fields: str) -> dict[str, Any]:
    response = client.post("/v1/files", files={"file": (name, content)}, data=fields)
    assert response.status_code == 202, response.text
    told: dict[str, Any] = response.json()
    return told


@pytest.fixture(scope="module")
def client(spam: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    with running([spam], tmp_path_factory.mktemp("jobs")) as client:
        yield client


def test_rows_come_back_with_what_is_predicted_of_them(client: httpx2.Client, spam: Path) -> None:
    before = counted(client, "rehead_predictions_total")
    job = finished(client, upload(client, table(100, start=700)))
    assert counted(client, "rehead_predictions_total") == before + 100
    assert (job["state"], job["progress"], job["facts"]["rows"]) == ("done", 1.0, 100)
    result = client.get(job["result"])
    assert "mail.predicted.csv" in result.headers["Content-Disposition"]
    rows = list(csv.DictReader(io.StringIO(result.text)))
    texts, _ = messages(100, start=700)
    loaded = load_artifact(spam)
    scores = loaded.scores(texts).probabilities
    assert [row["number"] for row in rows] == [str(i) for i in range(100)]
    assert [row["text"] for row in rows] == texts
    assert [row["predicted"] for row in rows] == [loaded.labels[i] for i in scores.argmax(1)]
    assert [float(row["p(spam)"]) for row in rows] == pytest.approx(scores[:, 1].tolist(), abs=1e-2)


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet"])
def test_result_has_the_form_that_was_asked_for(client: httpx2.Client, form: str) -> None:
    lines = "".join(json.dumps({"text": text}) + "\n" for text in messages(12)[0]).encode()
    job = finished(client, upload(client, lines, "lines.jsonl", format=form))
    content = client.get(job["result"]).content
    starts = {"csv": b"text,predicted", "tsv": b"text\tpredicted", "jsonl": b'{"text"', "parquet": b"PAR1"}
    assert content.startswith(starts[form])


def test_rows_that_cannot_be_read_are_told_apart(client: httpx2.Client) -> None:
    job = finished(client, upload(client, b'{"text": "win cash"}\nnot json\n{"text": "home"}\n', "mixed.jsonl"))
    assert (job["state"], job["facts"]["rows"], job["facts"]["bad_rows"]) == ("done", 2, 1)
    (bad,) = client.get(job["bad_rows"]).text.splitlines()
    assert "not json" in bad


def test_what_was_guessed_of_a_file_comes_with_its_result(client: httpx2.Client) -> None:
    job = finished(client, upload(client, "1,für dich ein Gewinn\n2,bis morgen also\n".encode("cp1252"), "new.csv"))
    encoding, column = job["facts"]["warnings"]
    assert encoding.startswith("new.csv is not UTF-8 and is read as Windows-1252")
    assert column.startswith("new.csv does not name its columns, so 'column 2', the one with the longest texts")


def test_workbook_is_read_within_the_memory_of_a_job(client: httpx2.Client, tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    pd.DataFrame({"text": ["win cash now", "see you later"]}).to_excel(tmp_path / "new.xlsx", index=False)
    job = finished(client, upload(client, (tmp_path / "new.xlsx").read_bytes(), "new.xlsx"))
    assert (job["state"], job["error"], job["facts"]["rows"], job["facts"]["warnings"]) == ("done", None, 2, [])


def test_file_that_is_no_table_fails_with_the_name_that_people_know(client: httpx2.Client) -> None:
    job = finished(client, upload(client, b"\x00\x01\x02" * 100, "picture.csv"))
    assert job["state"] == "failed"
    assert job["error"].startswith("picture.csv")
    refusal = client.get(f"/v1/files/{job['id']}/result")
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (409, "job_failed")


@pytest.mark.parametrize("name", ["../../etc/passwd", "..\\..\\boot.ini", "/", "a" * 300 + ".csv", "übel\n.csv", ""])
def test_name_of_a_file_is_no_path(client: httpx2.Client, name: str) -> None:
    response = client.post("/v1/files", files={"file": (name, table(12))})
    if response.status_code == 202:
        job = finished(client, response.json())
        assert job["state"] == "done"
        assert "/" not in job["name"]
        assert client.get(job["result"]).status_code == 200
    else:  # a name that no form can carry
        assert response.status_code == 422


def test_job_that_is_not_there_is_not_found(client: httpx2.Client) -> None:
    for path in ("", "/result", "/bad-rows"):
        assert client.get(f"/v1/files/{'0' * 24}{path}").json()["error"]["code"] == "unknown_job"
    assert client.get("/v1/files/..%2f..%2fjobs.sqlite").status_code in (404, 422)


def test_too_many_jobs_and_too_large_files_are_turned_away(spam: Path, tmp_path: Path) -> None:
    with running([spam], tmp_path / "jobs", limits=RequestLimits(jobs=0, upload_bytes=2_000)) as client:
        assert client.post("/v1/files", files={"file": ("a.csv", table(10))}).status_code == 429
        assert client.post("/v1/files", files={"file": ("a.csv", table(1000))}).status_code == 413
        # Before any of the file is taken in: it never comes.
        with socket.create_connection((client.base_url.host, client.base_url.port), timeout=10) as connection:
            head = "POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
            connection.sendall(f"{head}Content-Length: 1000\r\n\r\n".encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 429 ")
    assert not [path for path in (tmp_path / "jobs").iterdir() if path.is_dir()]


def test_live_requests_are_answered_while_a_file_is_scored(client: httpx2.Client) -> None:
    job = upload(client, table(20_000))
    times = []
    for text in messages(20, start=3000)[0]:
        begun = time.monotonic()
        assert client.post("/v1/predict", json={"texts": text}).status_code == 200
        times.append(time.monotonic() - begun)
    running_still = client.get(f"/v1/files/{job['id']}").json()["state"] == "running"
    cancelled = client.delete(f"/v1/files/{job['id']}").json()
    assert cancelled["state"] == "cancelled"
    assert running_still
    assert sorted(times)[10] < 1
    assert client.get(f"/v1/files/{job['id']}/result").status_code == 409


def test_a_server_that_was_killed_goes_on_with_its_jobs(spam: Path, tmp_path: Path) -> None:
    content, n = table(8_000), 8_000
    with process(spam, "--jobs", tmp_path / "jobs") as server, httpx2.Client(base_url=server.address) as client:
        job = upload(client, content)
        later = upload(client, table(20), "later.csv")
        deadline = time.monotonic() + 60
        while client.get(f"/v1/files/{job['id']}").json()["progress"] < 0.1 and time.monotonic() < deadline:
            time.sleep(0.02)
        half_way = client.get(f"/v1/files/{job['id']}").json()
        server.end(signal.SIGKILL)
    assert (half_way["state"], half_way["progress"] < 1) == ("running", True)
    with process(spam, "--jobs", tmp_path / "jobs") as server, httpx2.Client(base_url=server.address) as client:
        told = finished(client, client.get(f"/v1/files/{job['id']}").json(), 120)
        assert (told["state"], told["facts"]["rows"]) == ("done", n)
        assert told["facts"]["resumed_rows"] > 0
        rows = list(csv.DictReader(io.StringIO(client.get(told["result"]).text)))
        assert [row["number"] for row in rows] == [str(i) for i in range(n)]
        assert finished(client, client.get(f"/v1/files/{later['id']}").json())["state"] == "done"
        assert server.end(signal.SIGTERM) == 0


# The jobs by themselves, with work that the tests tell what to do.


def opened(folder: Path, work: Callable[..., dict[str, Any]]) -> tuple[Jobs, list[str]]:
    ended: list[str] = []
    return Jobs(folder, work, ended.append), ended


def until_stopped(begun: threading.Event) -> Callable[..., dict[str, Any]]:
    """Work that tells when it has begun, and goes on until it is told to stop."""

    def work(job: Job, file: Path, output: Path, tell: Any, stop: threading.Event) -> Any:
        begun.set()
        assert stop.wait(10)
        raise Interrupted

    return work


def add(jobs: Jobs, name: str = "a.csv") -> Job:
    return jobs.add(io.BytesIO(b"text\na\n"), "spam", name, None, "csv")


def wait_for(jobs: Jobs, job: Job, *states: str) -> Job:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = jobs.find(job.id)
        assert found is not None
        if found.state in states:
            return found
        time.sleep(0.01)
    raise AssertionError(f"{job.id} is still {found.state}")


def test_a_flipped_bit_in_what_is_known_of_jobs_is_refused_or_harmless(tmp_path: Path) -> None:
    def work(*_: object) -> dict[str, Any]:
        return {}

    kept = Jobs(tmp_path / "kept", work, lambda state: None)
    added = [kept.add(io.BytesIO(b"text"), "spam", f"{i}.csv", "text", "csv") for i in range(3)]
    kept.close()
    content = (tmp_path / "kept" / "jobs.sqlite").read_bytes()
    draw = random.Random(0)  # noqa: S311
    filled = [at for at, byte in enumerate(content) if byte]
    refused = 0
    for at in draw.sample(filled, 60):
        flipped = bytearray(content)
        flipped[at] ^= 1 << draw.randrange(8)
        folder = tmp_path / str(at)
        folder.mkdir()
        (folder / "jobs.sqlite").write_bytes(flipped)
        try:
            opened = Jobs(folder, work, lambda state: None)
        except SettingError:
            refused += 1
        else:
            assert [opened.find(job.id) for job in added] == added
            opened.close()
    assert refused > 40


def test_jobs_are_done_one_after_another(tmp_path: Path) -> None:
    order: list[str] = []

    def work(job: Job, file: Path, output: Path, tell: Callable[[int, int], None], stop: threading.Event) -> Any:
        order.append(job.name)
        tell(1, 2)
        return {"rows": 1}

    jobs, ended = opened(tmp_path / "jobs", work)
    added = [add(jobs, name) for name in ("a.csv", "b.csv", "c.csv")]
    jobs.start()
    done = [wait_for(jobs, job, "done") for job in added]
    jobs.close()
    assert order == ["a.csv", "b.csv", "c.csv"]
    assert [(job.done, job.total, job.summary) for job in done] == [(1, 2, {"rows": 1})] * 3
    assert ended == ["done"] * 3


def test_what_goes_wrong_is_told_and_the_next_job_is_done(tmp_path: Path) -> None:
    def work(job: Job, file: Path, *_: Any) -> Any:
        if job.name == "bad.csv":
            raise DataError(f"{file} row 3: 2 fields, expected 3; mend it")
        if job.name == "fault.csv":
            raise ZeroDivisionError
        return {}

    jobs, ended = opened(tmp_path / "jobs", work)
    bad, fault, good = (add(jobs, name) for name in ("bad.csv", "fault.csv", "good.csv"))
    jobs.start()
    wait_for(jobs, good, "done")
    assert wait_for(jobs, bad, "failed").error == "bad.csv row 3: 2 fields, expected 3; mend it"
    assert "ZeroDivisionError" in str(wait_for(jobs, fault, "failed").error)
    jobs.close()
    assert ended == ["failed", "failed", "done"]


def test_closing_keeps_what_is_running_for_the_next_time(tmp_path: Path) -> None:
    begun = threading.Event()
    jobs, ended = opened(tmp_path / "jobs", until_stopped(begun))
    job, other = add(jobs), add(jobs, "b.csv")
    jobs.start()
    assert begun.wait(10)
    with pytest.raises(SettingError, match="another server"):
        opened(tmp_path / "jobs", until_stopped(begun))
    jobs.close()
    assert ended == []
    again, _ = opened(tmp_path / "jobs", lambda *_: {"rows": 1})
    again.start()
    wait_for(again, job, "done")
    wait_for(again, other, "done")
    again.close()


def test_cancelled_jobs_leave_nothing(tmp_path: Path) -> None:
    begun = threading.Event()
    jobs, ended = opened(tmp_path / "jobs", until_stopped(begun))
    running_, waiting = add(jobs), add(jobs, "b.csv")
    jobs.start()
    assert begun.wait(10)
    jobs.cancel(waiting.id)
    jobs.cancel(running_.id)
    deadline = time.monotonic() + 10
    while not ended and time.monotonic() < deadline:
        time.sleep(0.01)
    jobs.close()
    assert ended == ["cancelled"]
    assert [path for path in (tmp_path / "jobs").iterdir() if path.is_dir()] == []
    assert jobs_state(tmp_path / "jobs", running_.id) == jobs_state(tmp_path / "jobs", waiting.id) == "cancelled"


def jobs_state(folder: Path, number: str) -> str:
    jobs, _ = opened(folder, lambda *_: {})
    try:
        found = jobs.find(number)
        assert found is not None
        return found.state
    finally:
        jobs.close()


def test_old_jobs_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, _ = opened(tmp_path / "jobs", lambda *_: {})
    old = add(jobs)
    jobs.start()
    wait_for(jobs, old, "done")
    jobs.close()
    monkeypatch.setattr("rehead.serving.jobs._KEPT", 0)
    again, _ = opened(tmp_path / "jobs", lambda *_: {})
    again.start()
    deadline = time.monotonic() + 10
    while again.find(old.id) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert again.find(old.id) is None
    again.close()
    assert not (tmp_path / "jobs" / old.id).exists()


def test_folder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here")
    with pytest.raises(SettingError, match="`jobs="):
        opened(tmp_path / "file", lambda *_: {})
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "jobs.sqlite").write_bytes(b"no database at all, but long enough for a header" * 20)
    with pytest.raises(SettingError, match="`jobs="):
        opened(tmp_path / "jobs", lambda *_: {})
