"""A Hugging Face hub on this machine: as much of its HTTP interface as loading takes.

Repositories are dicts of file names and contents; every content is a commit of its own, and
``main`` is the newest.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Files = dict[str, bytes]


@dataclass
class Hub:
    """What is on it, by kind (``models`` or ``datasets``) and id, then by commit."""

    url: str = ""
    commits: dict[tuple[str, str], dict[str, Files]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """Every path that was asked for."""

    def push(self, kind: str, repo_id: str, files: Files) -> str:
        """Make these files the newest commit of a repository."""
        digest = hashlib.sha1(usedforsecurity=False)
        for name, content in sorted(files.items()):
            digest.update(f"{name}\0{len(content)}\0".encode() + content)
        commit = digest.hexdigest()
        self.commits.setdefault((kind, repo_id), {})[commit] = files
        return commit

    def find(self, kind: str, repo_id: str, revision: str) -> tuple[str, Files] | None:
        commits = self.commits.get((kind, repo_id), {})
        commit = next(reversed(commits), "") if revision == "main" else revision
        return (commit, commits[commit]) if commit in commits else None


@contextmanager
def serving() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer({})

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        is_json = "json" in self.headers.get("Content-Type", "")
        self._answer(json.loads(body) if is_json else parse_qs(body))

    def _answer(self, given: dict[str, Any]) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        words = path.strip("/").split("/")
        if words[0] == "api" and words[1] in ("models", "datasets"):
            self._tell(words[1], "/".join(words[2:4]), words[4:], given)
        elif "resolve" in words[2:4]:
            at = words.index("resolve")
            kind = words[0] if at == 3 else "models"
            self._file(kind, "/".join(words[at - 2 : at]), words[at + 1], "/".join(words[at + 2 :]))
        else:
            self._refuse("EntryNotFound")

    def _tell(self, kind: str, repo_id: str, rest: list[str], given: dict[str, Any]) -> None:
        question, revision = rest[:2] if len(rest) > 1 else ("", "main")
        found = self.hub.find(kind, repo_id, revision)
        if found is None:
            self._refuse("RepoNotFound")
            return
        commit, files = found
        listed = [
            {"type": "file", "path": name, "size": len(content), "oid": _oid(content)}
            for name, content in sorted(files.items())
        ]
        if question == "tree":
            folder = "/".join(rest[2:])
            inside = [file for file in listed if str(file["path"]).startswith(folder)]
            self._json(inside) if inside else self._refuse("EntryNotFound")
        elif question == "paths-info":
            self._json([file for file in listed if file["path"] in given["paths"]])
        else:
            siblings = [{"rfilename": name} for name in sorted(files)]
            self._json({"id": repo_id, "sha": commit, "private": False, "siblings": siblings})

    def _file(self, kind: str, repo_id: str, revision: str, name: str) -> None:
        found = self.hub.find(kind, repo_id, revision)
        if found is None or name not in found[1]:
            self._refuse("RepoNotFound" if found is None else "EntryNotFound")
            return
        commit, content = found[0], found[1][name]
        self._send(200, content, {"X-Repo-Commit": commit, "ETag": f'"{_oid(content)}"'})

    def _json(self, answer: Any) -> None:
        self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _refuse(self, code: str) -> None:
        self._send(404, b"{}", {"X-Error-Code": code, "Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: tests print what matters to them."""


def _oid(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()
