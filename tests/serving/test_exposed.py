"""A server that strangers can reach: what they send slowly, halfway, too often or too large costs it little."""

import csv
import io
import json
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pyarrow
import pyarrow.parquet
import pytest

from rehead.serving.keys import Keys
from rehead.serving.refusals import Refusal
from rehead.serving.settings import RequestLimits
from tests.serving.running import counted, process, running
from tests.serving.test_jobs import finished, table, upload

KEY = "0123456789abcdef0123"
BODY = b'{"texts": "win free cash"}'
ASK = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
IMPATIENT = RequestLimits(
    head_seconds=0.5, body_seconds=0.5, body_bytes_a_second=10_000, head_bytes=10_000, connections=60
)


@pytest.fixture(scope="module")
def impatient(spam: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    with running([spam], tmp_path_factory.mktemp("jobs"), limits=IMPATIENT) as client:
        yield client


def opened(client: httpx2.Client) -> socket.socket:
    return socket.create_connection((client.base_url.host, client.base_url.port), timeout=20)


def received(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    content = b""
    try:
        while piece := connection.recv(65536):
            content += piece
    except ConnectionError:
        pass
    return content


def is_open(connection: socket.socket) -> bool:
    """Whether another byte can be sent."""
    try:
        connection.sendall(b"a")
    except OSError:
        return False
    return True


def refusal_in(content: bytes) -> tuple[int, str]:
    head, _, body = content.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), json.loads(body)["error"]["code"]


# Half-sent and slow requests.


@pytest.mark.parametrize("sent", [b"POST /v1/pre", ASK % 1000, ASK % 1000 + b'{"texts": '])
def test_half_sent_requests_are_ended_and_others_answered(impatient: httpx2.Client, sent: bytes) -> None:
    connections = [opened(impatient) for _ in range(40)]
    begun = time.monotonic()
    for connection in connections:
        connection.sendall(sent)
    assert impatient.post("/v1/predict", json={"texts": "win"}).status_code == 200
    with ThreadPoolExecutor(40) as threads:
        ended = list(threads.map(received, connections))
    assert time.monotonic() - begun < 10
    assert {refusal_in(content) for content in ended} == {(408, "too_slow")}


def test_connection_that_says_nothing_is_closed(impatient: httpx2.Client) -> None:
    with opened(impatient) as connection:
        assert received(connection) == b""


@pytest.mark.parametrize("sent", [b"GET /healthz HTTP/1.1\r\nX-Long: ", ASK % 100_000])
def test_a_byte_now_and_then_is_not_enough(impatient: httpx2.Client, sent: bytes) -> None:
    with opened(impatient) as connection:
        connection.sendall(sent)
        deadline = time.monotonic() + 10
        while is_open(connection):
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_body_that_keeps_coming_is_waited_for(impatient: httpx2.Client) -> None:
    body = json.dumps({"texts": ["win free cash " * 500] * 8}).encode()
    pieces = [body[i : i + 6_000] for i in range(0, len(body), 6_000)]
    with opened(impatient) as connection:
        begun = time.monotonic()
        connection.sendall(ASK % len(body))
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(0.15)
        assert time.monotonic() - begun > 2 * IMPATIENT.body_seconds
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")


def test_connections_are_counted(impatient: httpx2.Client) -> None:
    connections = [opened(impatient) for _ in range(IMPATIENT.connections + 10)]
    for connection in connections:
        connection.sendall(b"G")
    with ThreadPoolExecutor(len(connections)) as threads:
        ended = [refusal_in(content) for content in threads.map(received, connections) if content]
    assert 5 <= ended.count((503, "too_many_connections")) <= 30
    assert impatient.get("/healthz").status_code == 200


def test_endless_headers_are_refused(impatient: httpx2.Client) -> None:
    with opened(impatient) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\n" + b"X: " + b"a" * 20_000)
        assert refusal_in(received(connection)) == (431, "large_head")


def test_a_large_head_is_refused_that_comes_whole(impatient: httpx2.Client) -> None:
    for before in (b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        with opened(impatient) as connection:
            head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"X: " + b"a" * 20_000 + b"\r\n\r\n"
            connection.sendall(before + head)
            answered = received(connection)
        if before:
            assert answered.count(b"HTTP/1.1 ") <= 1  # the first may be answered before the connection is closed
        else:
            assert refusal_in(answered) == (431, "large_head")


def test_what_is_no_http_is_refused_in_the_same_shape(impatient: httpx2.Client) -> None:
    with opened(impatient) as connection:
        connection.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert refusal_in(received(connection)) == (400, "not_http")


def test_clients_that_take_nothing_in_are_left(spam: Path, tmp_path: Path) -> None:
    n, size = 2_000, len(httpx2.Response(200).content)
    with running([spam], tmp_path / "jobs", limits=RequestLimits(write_seconds=0.5)) as client:
        size = len(client.get("/openapi.json").content)
        with opened(client) as connection:
            connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * n)
            deadline = time.monotonic() + 20
            before = -1.0
            while (now := counted(client, "rehead_requests_total", path="/openapi.json")) != before:
                before = now
                time.sleep(1)
                assert time.monotonic() < deadline
            assert len(received(connection)) < n * size


def test_a_client_that_has_closed_its_sending_half_is_answered(impatient: httpx2.Client) -> None:
    with opened(impatient) as connection:
        connection.sendall(ASK % len(BODY) + BODY)
        connection.shutdown(socket.SHUT_WR)
        answer = received(connection).removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"label": "spam"' in answer


# Host and keys.


def status_of(client: httpx2.Client, head: str) -> tuple[int, str]:
    with opened(client) as connection:
        connection.sendall(f"GET /v1/models HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode())
        content = received(connection)
    status = int(content.split()[1])
    return status, "" if status == 200 else refusal_in(content)[1]


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("Host: localhost\r\n", (200, "")),
        ("Host: LOCALHOST:80\r\n", (200, "")),
        ("Host: [::1]:8000\r\n", (200, "")),
        ("", (400, "one_host")),
        ("Host: localhost\r\nHost: example.org\r\n", (400, "one_host")),
        ("Host: localhost\r\nHost: localhost\r\n", (400, "one_host")),
        ("Host: localhost:80@example.org\r\n", (400, "one_host")),
        ("Host: localhost:example.org\r\n", (400, "one_host")),
        ("Host: localhost,example.org\r\n", (400, "one_host")),
        ("Host: localhost.example.org\r\n", (403, "other_host")),
        ("Host: localhost\r\nOrigin: http://localhost:81\r\n", (403, "other_origin")),
    ],
)
def test_host_is_one_and_checked_whole(impatient: httpx2.Client, head: str, expected: tuple[int, str]) -> None:
    assert status_of(impatient, head) == expected


def test_other_protocols_than_http_are_not_spoken(impatient: httpx2.Client) -> None:
    upgrade = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    assert status_of(impatient, f"Host: example.org\r\nConnection: Upgrade\r\n{upgrade}") == (403, "other_host")


def test_wrong_keys_are_slowed_down_and_others_are_not(spam: Path, tmp_path: Path) -> None:
    with running([spam], tmp_path / "jobs", keys=frozenset({KEY})) as client:

        def ask(key: str, **headers: str) -> httpx2.Response:
            return client.get("/v1/models", headers={"X-API-Key": key, **headers})

        elsewhere = {"X-Forwarded-For": "203.0.113.7"}  # a proxy on this machine is believed
        assert [ask(f"{KEY}{i}", **elsewhere).status_code for i in range(8)] == [401] * 6 + [429] * 2
        refused = ask(KEY, **elsewhere)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_wrong_keys")
        assert int(refused.headers["Retry-After"]) >= 1
        assert ask(KEY).status_code == 200
        time.sleep(float(refused.headers["Retry-After"]) + 1)
        assert ask(KEY, **elsewhere).status_code == 200


def test_each_wrong_key_costs_twice_the_time_of_the_one_before() -> None:
    now = 0.0
    keys = Keys([KEY], lambda: now)

    def answer(key: str, address: str = "198.51.100.1") -> int:
        try:
            keys.require(address, key)
        except Refusal as refusal:
            return refusal.status
        return 200

    assert answer(KEY) == 200
    assert [answer("guess") for _ in range(6)] == [401] * 6
    for seconds in (2, 4, 8, 16, 32, 60, 60):
        now += seconds - 0.5
        assert answer("guess") == 429
        assert answer(KEY) == 200  # this one has come from there before
        assert answer(KEY, "198.51.100.2") == 200
        now += 1
        assert answer("guess") == 401
    assert answer("") == 429
    now += 1_000
    assert [answer("guess") for _ in range(6)] == [401] * 6
    # One customer has a whole network of IPv6.
    assert [answer("guess", f"2001:db8::{i}") for i in range(8)] == [401] * 6 + [429] * 2
    assert answer("guess", "2001:db8:1::1") == 401


# Files that cost more than they look.


def parquet(columns: dict[str, Any]) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink, compression="zstd")
    return sink.getvalue()


def bomb(rows: int) -> bytes:
    """A few kilobytes that are `rows` times 900,000 characters when they are read."""
    texts = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * rows, pyarrow.int32()), ["win " * 225_000])
    return parquet({"text": texts.cast(pyarrow.string()) if rows < 100 else texts})


def test_a_file_that_decodes_to_gigabytes_fails_alone(spam: Path, tmp_path: Path) -> None:
    content = bomb(5_000)
    assert len(content) < 100_000
    with running([spam], tmp_path / "jobs", limits=RequestLimits(job_bytes=2**30)) as client:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        job = upload(client, content, "small.parquet")
        times = []
        while client.get(f"/v1/files/{job['id']}").json()["state"] in ("waiting", "running"):
            begun = time.monotonic()
            assert client.post("/v1/predict", json={"texts": "win"}).status_code == 200
            times.append(time.monotonic() - begun)
        job = finished(client, job)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert job["state"] == "failed"
    assert job["error"] == "small.parquet takes more than 1.0 GB of memory to read; split it, or shorten its cells"
    assert sorted(times)[len(times) // 2] < 1
    assert grown < 200_000  # kilobytes


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "late.jsonl", "parquet"])
def test_too_many_columns_are_refused_before_they_are_looked_at(impatient: httpx2.Client, kind: str) -> None:
    n = 100_000
    if kind in ("csv", "tsv"):
        mark = "," if kind == "csv" else "\t"
        content = "\n".join(mark.join(f"{letter}{i}" for i in range(n)) for letter in "cab").encode()
    elif kind == "jsonl":
        content = b"\n".join(json.dumps({f"c{i}": "a" for i in range(k, n, 50)}).encode() for k in range(50))
    elif kind == "late.jsonl":  # each row another key, and most of them behind the beginning that is looked at
        content = b"\n".join(json.dumps({"text": "win " * 20, f"c{i}": "a"}).encode() for i in range(n))
    else:
        content = parquet({f"c{i}": ["a"] for i in range(17_000)})
    job = finished(impatient, upload(impatient, content, f"wide.{kind}"), 120)
    assert job["state"] == "failed"
    assert "columns, the limit is 16,384" in job["error"]


def test_a_file_that_gives_nothing_for_long_fails(spam: Path, tmp_path: Path) -> None:
    with running([spam], tmp_path / "jobs", limits=RequestLimits(job_seconds=0.01)) as client:
        job = finished(client, upload(client, table(10)))
    assert (job["state"], "no rows could be read from it" in job["error"]) == ("failed", True)


def test_deleting_and_stopping_take_a_second_whatever_is_being_read(spam: Path, tmp_path: Path) -> None:
    with process(spam, "--jobs", tmp_path / "jobs") as server, httpx2.Client(base_url=server.address) as client:

        def being_read() -> dict[str, Any]:
            job = upload(client, bomb(1_500), "small.parquet")
            while not readers(server.process.pid) or client.get(f"/v1/files/{job['id']}").json()["state"] == "waiting":
                time.sleep(0.05)
            time.sleep(1)
            return job

        job = being_read()
        begun = time.monotonic()
        assert client.delete(f"/v1/files/{job['id']}").json()["state"] == "cancelled"
        while readers(server.process.pid):
            assert time.monotonic() - begun < 2
            time.sleep(0.02)
        being_read()
        client.close()
        begun = time.monotonic()
        assert server.end(signal.SIGTERM) == 0
        assert time.monotonic() - begun < 3  # a second, and what the interpreter takes to end
        assert not readers(server.process.pid)


def readers(server: int) -> list[int]:
    """The processes that read files for a server."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"rehead.serving.job_process" in command and command[-2] == str(server).encode():
                found.append(int(folder.name))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process")
def test_a_full_disk_is_said_as_such(spam: Path, tmp_path: Path) -> None:
    with process(spam, "--jobs", tmp_path / "jobs") as server, httpx2.Client(base_url=server.address) as client:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        for rows in (10_000, 30_000):  # the second does not even fit into a temporary file
            response = client.post("/v1/files", files={"file": ("a.csv", table(rows))})
            assert (response.status_code, response.json()["error"]["code"]) == (507, "disk_full")
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        assert finished(client, upload(client, table(10)))["state"] == "done"
    assert len([path for path in (tmp_path / "jobs").iterdir() if path.is_dir()]) == 1


# What spreadsheets would run.


@pytest.mark.parametrize(("form", "mark"), [("csv", ","), ("tsv", "\t")])
def test_formulas_are_made_harmless_unless_they_are_to_be_kept(impatient: httpx2.Client, form: str, mark: str) -> None:
    texts = ['=HYPERLINK("http://example.org")', "+cmd|calc", "-2+3", "@SUM(1)", " =1+1", "\t=1", "＝1+1"]
    harmless = ["-1.5", "+49", "a = b", "win - cash", ""]
    source = io.StringIO()
    csv.writer(source).writerows([("note", "text"), *([text, f"win {i}"] for i, text in enumerate(texts + harmless))])

    def notes(**fields: str) -> list[str]:
        job = finished(impatient, upload(impatient, source.getvalue().encode(), "a.csv", format=form, **fields))
        result = impatient.get(job["result"]).text
        return [row["note"] for row in csv.DictReader(io.StringIO(result, newline=""), delimiter=mark)]

    assert notes() == [f"'{text}" for text in texts] + harmless
    assert notes(formulas="keep") == texts + harmless


def test_nothing_is_escaped_where_no_spreadsheet_reads_it(impatient: httpx2.Client) -> None:
    job = finished(impatient, upload(impatient, b'{"text": "=1+1"}\n{"text": "win"}\n', "a.jsonl"))
    assert json.loads(impatient.get(job["result"]).text.splitlines()[0])["text"] == "=1+1"


def test_requests_are_answered_while_connections_are_stuck(impatient: httpx2.Client) -> None:
    stuck = [opened(impatient) for _ in range(30)]
    stopped = threading.Event()

    def hold(connection: socket.socket) -> None:
        with connection:
            connection.sendall(ASK % 100)
            stopped.wait(10)

    with ThreadPoolExecutor(30) as threads:
        held = [threads.submit(hold, connection) for connection in stuck]
        times = []
        for _ in range(20):
            begun = time.monotonic()
            assert impatient.post("/v1/predict", json={"texts": "win"}).status_code == 200
            times.append(time.monotonic() - begun)
        stopped.set()
        for each in held:
            each.result()
    assert sorted(times)[10] < 1
