"""A stand-in for the Hub on loopback, that takes an upload: it keeps what it is asked and told."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LARGE = (".safetensors", "tokenizer.json", ".png")


@dataclass
class Hub:
    """What was asked, and what it holds: `files` of the repository, and `refuse`: path pattern -> status, message."""

    url: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)
    bodies: dict[str, Any] = field(default_factory=dict)
    tokens: set[str | None] = field(default_factory=set)
    blobs: dict[str, bytes] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    refuse: dict[str, tuple[int, str]] = field(default_factory=dict)
    private: bool = False
    exists: bool = False

    def asked(self, pattern: str) -> list[str]:
        return [path for _, path in self.requests if re.search(pattern, path)]

    def answer(self, path: str, body: bytes, token: str | None) -> tuple[int, Any]:
        for pattern, (status, message) in self.refuse.items():
            if re.search(pattern, path):
                return status, {"error": message.replace("TOKEN", str(token))}
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if "/preupload/" in path:
            return 200, {"files": [_mode(file) for file in json.loads(body)["files"]]}
        if path.endswith("/info/lfs/objects/batch"):
            return 200, {"transfer": "basic", "objects": [self._place(o) for o in json.loads(body)["objects"]]}
        if "/commit/" in path:
            return self._commit(body)
        if path.endswith("/items"):
            self.bodies["collection"] = (path, json.loads(body))
            return 200, {"slug": "me/mine-1", "title": "mine", "owner": {"name": "me"}, "items": [],
                         "lastUpdated": "2026-01-01T00:00:00.000Z", "position": 0, "private": False, "theme": "blue",
                         "upvotes": 0}  # fmt: skip
        if path.startswith("/api/models/") and self.exists:
            return 200, {"id": "me/model", "modelId": "me/model", "private": self.private, "sha": "0" * 40,
                         "siblings": [], "tags": []}  # fmt: skip
        return 404, {"error": f"no {path}"}

    def _create(self, asked: dict[str, Any]) -> tuple[int, Any]:
        self.bodies["create"] = asked
        where = {"url": f"{self.url}/me/model"}
        if self.exists:  # and stays as it is
            return 409, where | {"error": "You already created this model repo"}
        self.exists, self.private = True, _is_private(asked)
        return 200, where

    def _place(self, thing: dict[str, Any]) -> dict[str, Any]:
        here = {"upload": {"href": f"{self.url}/blobs/{thing['oid']}"}}
        return {**thing, "authenticated": True} | ({} if thing["oid"] in self.blobs else {"actions": here})

    def _commit(self, body: bytes) -> tuple[int, Any]:
        for line in map(json.loads, body.decode().splitlines()):
            said = line["value"]
            if line["key"] == "file":
                self.files[said["path"]] = base64.b64decode(said["content"])
            elif line["key"] == "lfsFile":
                self.files[said["path"]] = self.blobs[said["oid"]]
            else:
                self.bodies["commit"] = said
        return 200, {"commitUrl": f"{self.url}/me/model/commit/{'0' * 40}", "commitOid": "0" * 40}


def _is_private(asked: dict[str, Any]) -> bool:
    """As older and as newer clients say it."""
    return asked.get("private") is True or asked.get("visibility") == "private"


def _mode(file: dict[str, Any]) -> dict[str, Any]:
    mode = "lfs" if file["path"].endswith(LARGE) else "regular"
    return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": None}


@contextmanager
def running_hub() -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.partition("?")[0]
            body = self._body()
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
            hub.requests.append((self.command, path))
            hub.tokens.add(token)
            if self.command == "PUT":
                hub.blobs[path.rpartition("/")[2]] = body
                return self._reply(200, {})
            self._reply(*hub.answer(path, body, token))

        do_POST = do_PUT = do_GET

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            pieces = []
            while size := int(self.rfile.readline().strip() or b"0", 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)

        def _reply(self, status: int, value: Any) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if isinstance(value, dict) and "error" in value:
                self.send_header("X-Error-Message", value["error"])
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *said: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
