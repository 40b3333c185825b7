"""A model hub on loopback: as much of its API as huggingface_hub uses to make a repository, fill it and fetch it."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "c" * 40


class FakeHub:
    """What it holds.

    Attributes:
        files: of each repository by name, contents by path.
        cards: YAML headers that it was asked to validate.
        private: repositories that were made as private ones.
        fetched: paths that were asked for.
        refuses: whether nobody may write there.
    """

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.blobs: dict[str, bytes] = {}
        self.cards: list[str] = []
        self.private: set[str] = set()
        self.fetched: list[str] = []
        self.refuses = False
        self.url = ""

    def make(self, body: Any) -> Any:
        name = f"{body['organization']}/{body['name']}"
        self.files.setdefault(name, {})
        if body.get("visibility") == "private" or body.get("private"):
            self.private.add(name)
        return {"url": f"{self.url}/{name}", "name": name, "id": name}

    def commit(self, name: str, lines: list[Any]) -> Any:
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                self.files[name][value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.files[name][value["path"]] = self.blobs[value["oid"]]
        return {"success": True, "commitOid": COMMIT, "commitUrl": f"{self.url}/{name}/commit/{COMMIT}"}

    def batch(self, body: Any) -> Any:
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.url}/lfs/{one['oid']}"}}}
            for one in body["objects"]
            if one["oid"] not in self.blobs
        ]
        return {"transfer": "basic", "objects": objects}


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def answer(self, content: Any, status: int = 200, **headers: str) -> None:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def read(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def do_POST(self) -> None:
            body, path = self.read(), urlsplit(self.path).path
            if hub.refuses:
                return self.answer({"error": "you may not write here"}, 403)
            if path == "/api/repos/create":
                return self.answer(hub.make(json.loads(body)))
            if path == "/api/validate-yaml":
                hub.cards.append(json.loads(body)["content"])
                return self.answer({"errors": [], "warnings": []})
            if path.endswith("/objects/batch"):
                return self.answer(hub.batch(json.loads(body)))
            name, verb = "/".join(path.split("/")[3:5]), path.split("/")[5]
            if verb == "preupload":
                return self.answer({"files": [_mode(file["path"]) for file in json.loads(body)["files"]]})
            return self.answer(hub.commit(name, [json.loads(line) for line in body.splitlines()]))

        def do_PUT(self) -> None:
            content = self.read()
            assert hashlib.sha256(content).hexdigest() == self.path.split("/")[-1]
            hub.blobs[self.path.split("/")[-1]] = content
            self.answer({})

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            if path.startswith("/api/models/"):
                name, verb = "/".join(path.split("/")[3:5]), path.split("/")[5]
                if name not in hub.files:
                    return self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
                if verb == "tree":
                    return self.answer([_entry(*one) for one in sorted(hub.files[name].items())])
                return self.answer({"id": name, "sha": COMMIT, "siblings": [], "tags": []})
            name, file = "/".join(path.split("/")[1:3]), "/".join(path.split("/")[5:])
            if name not in hub.files:
                return self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
            content = hub.files[name].get(file)
            if content is None:
                return self.answer(
                    {"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound", X_Repo_Commit=COMMIT
                )
            hub.fetched.append(file)
            return self.answer(content, ETag=f'"{hashlib.sha256(content).hexdigest()}"', X_Repo_Commit=COMMIT)

        do_HEAD = do_GET  # noqa: N815 - as the base class calls it

    return Handler


def _mode(path: str) -> Any:
    mode = "lfs" if path.endswith(".safetensors") else "regular"
    return {"path": path, "uploadMode": mode, "shouldIgnore": False}


def _entry(path: str, content: bytes) -> Any:
    return {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}  # noqa: S324


@contextmanager
def serving() -> Iterator[FakeHub]:
    """A hub that answers at its `url`, with nothing in it."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
