"""A hub of one's own: as much of the Hugging Face hub's HTTP interface as downloading a repository takes.

It serves folders, each as one repository. `huggingface_hub` reads HF_ENDPOINT when it is imported, so what downloads
from here runs in a process of its own, with the environment that `hub_environment` gives.

    with hub({"models/owner/name": folder}) as server:
        subprocess.run([sys.executable, "-c", code], env=hub_environment(server.url, cache))
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from local_server import serving

SHA = "0123456789abcdef0123456789abcdef01234567"
PRIVATE = "private"  # repositories of this owner need a login
GATED = "gated"  # … and of this one, a permission
BROKEN = "broken"  # the hub fails on these


@dataclass
class Hub:
    """A running server: its address, and the paths that were asked for."""

    url: str
    requests: list[str] = field(default_factory=list)


@contextmanager
def hub(repositories: Mapping[str, Path]) -> Iterator[Hub]:
    """Serve folders under ``models/OWNER/NAME`` or ``datasets/OWNER/NAME`` while the block runs."""
    record = Hub("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            record.requests.append(self.path)
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def _answer(self, with_body: bool) -> None:
            status, headers, body = _route(repositories, self.path)
            self.send_response(status)
            for header, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(header, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Keep the terminal for the tests."""

    with serving(Handler) as address:
        record.url = address
        yield record


Answer = tuple[int, dict[str, str], bytes]


def _refusal(repository: str) -> Answer | None:
    """The hub's answers to those who may not read a repository."""
    owner = repository.split("/")[1]
    if owner == PRIVATE:
        return 401, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}, b"{}"
    if owner == GATED:
        return 403, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted"}, b"{}"
    return (503, {}, b"{}") if owner == BROKEN else None


def _route(repositories: Mapping[str, Path], path: str) -> Answer:
    """The answer to a path of the hub's interface."""
    match path.split("?")[0].strip("/").split("/"):
        case ["api", kind, owner, name, "revision", revision]:
            return _repository(repositories, f"{kind}/{owner}/{name}", revision)
        case ["api", kind, owner, name, "tree", revision]:
            return _tree(repositories, f"{kind}/{owner}/{name}", revision)
        case ["datasets", owner, name, "resolve", revision, *inside]:
            return _file(repositories, f"datasets/{owner}/{name}", revision, "/".join(inside))
        case [owner, name, "resolve", revision, *inside]:
            return _file(repositories, f"models/{owner}/{name}", revision, "/".join(inside))
        case _:
            return 404, {}, b""


def _repository(repositories: Mapping[str, Path], repository: str, revision: str) -> Answer:
    """What the repository holds."""
    refusal = _refusal(repository)
    if refusal is not None:
        return refusal
    folder = repositories.get(repository)
    if folder is None:
        return 404, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"}, b"{}"
    if revision not in {"main", SHA}:
        return 404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": f"Invalid rev id: {revision}"}, b"{}"
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    content = {
        "id": repository.split("/", 1)[1],
        "sha": SHA,
        "private": False,
        "tags": [],
        "downloads": 0,
        "likes": 0,
        "siblings": [{"rfilename": name} for name in files],
    }
    return 200, {"Content-Type": "application/json"}, json.dumps(content).encode()


def _tree(repositories: Mapping[str, Path], repository: str, revision: str) -> Answer:
    """The files of a repository, as newer clients ask for them."""
    status, headers, body = _repository(repositories, repository, revision)
    if status != 200:
        return status, headers, body
    names = [sibling["rfilename"] for sibling in json.loads(body)["siblings"]]
    contents = {name: (repositories[repository] / name).read_bytes() for name in names}
    listed = [
        {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
        for name, content in contents.items()
    ]
    return 200, headers, json.dumps(listed).encode()


def _file(repositories: Mapping[str, Path], repository: str, revision: str, inside: str) -> Answer:
    """One file of a repository."""
    path = repositories[repository] / inside if repository in repositories else None
    if path is None or not path.is_file() or revision not in {"main", SHA}:
        return 404, {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found"}, b""
    body = path.read_bytes()
    headers = {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": SHA, "Accept-Ranges": "bytes"}
    return 200, headers, body


def hub_environment(url: str, cache: Path) -> dict[str, str]:
    """The environment of a process that takes the server at `url` for the hub and keeps downloads in `cache`."""
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower() and name[:3] != "HF_"}
    return {
        **kept,
        "HF_ENDPOINT": url,
        "HF_HOME": str(cache),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_XET": "1",
        "EDGETF_CACHE": str(cache / "edgetf"),
        "NO_PROXY": "127.0.0.1,localhost",
    }
