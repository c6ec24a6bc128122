"""A small registry that is strict about Confluent's Schema Registry API, as it is published."""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

LEVELS = {"NONE", "BACKWARD", "FORWARD", "FULL"} | {
    f"{each}_TRANSITIVE" for each in ("BACKWARD", "FORWARD", "FULL")
}


class Registry:
    """What it holds; ``changes`` are the requests that changed something."""

    def __init__(self, *, authorization: str = "", refuses: str = "") -> None:
        self.authorization = authorization
        self.refuses = refuses
        self.schemas: dict[str, list[str]] = {}
        self.levels: dict[str, str] = {}
        self.changes: list[str] = []
        self.faults: list[str] = []
        self.url = ""

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        routes = (
            ("POST", r"/subjects/([^/]+)", self._look_up),
            ("POST", r"/subjects/([^/]+)/versions", self._register),
            ("POST", r"/compatibility/subjects/([^/]+)/versions/latest", self._check),
            ("GET", r"/config/([^/]+)", self._level),
            ("PUT", r"/config/([^/]+)", self._set_level),
        )
        for wanted, pattern, do in routes:
            found = re.fullmatch(pattern, path)
            if wanted == method and found:
                return do(unquote(found[1]), body)
        self.faults.append(f"{method} {path}")
        return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}

    def _schema(self, body: Any) -> str:
        if not isinstance(body, dict) or body.keys() - {"schemaType", "schema", "references"}:
            self.faults.append(f"body {body!r}")
        if body.get("schemaType") != "JSON" or not isinstance(json.loads(body["schema"]), dict):
            self.faults.append(f"schema {body!r}")
        return str(body["schema"])

    def _look_up(self, subject: str, body: Any) -> tuple[int, Any]:
        if subject not in self.schemas:
            return 404, {"error_code": 40401, "message": f"Subject '{subject}' not found."}
        if self._schema(body) not in self.schemas[subject]:
            return 404, {"error_code": 40403, "message": "Schema not found"}
        return 200, {"subject": subject, "id": 1, "version": 1, "schema": body["schema"]}

    def _register(self, subject: str, body: Any) -> tuple[int, Any]:
        schema = self._schema(body)
        if subject == self.refuses:
            return 409, {"error_code": 409, "message": "PROPERTY_REMOVED at #/properties/name"}
        self.changes.append(f"schema {subject}")
        self.schemas.setdefault(subject, []).append(schema)
        return 200, {"id": len(self.changes)}

    def _check(self, subject: str, body: Any) -> tuple[int, Any]:
        self._schema(body)
        if subject == self.refuses:
            return 200, {"is_compatible": False, "messages": ["PROPERTY_REMOVED"]}
        if subject not in self.schemas:
            return 404, {"error_code": 40401, "message": f"Subject '{subject}' not found."}
        return 200, {"is_compatible": True}

    def _level(self, subject: str, _: Any) -> tuple[int, Any]:
        if subject not in self.levels:
            message = f"Subject '{subject}' does not have subject-level compatibility configured"
            return 404, {"error_code": 40408, "message": message}
        return 200, {"compatibilityLevel": self.levels[subject]}

    def _set_level(self, subject: str, body: Any) -> tuple[int, Any]:
        if body.keys() != {"compatibility"} or body["compatibility"] not in LEVELS:
            return 422, {"error_code": 42203, "message": "Invalid compatibility level"}
        self.changes.append(f"level {subject}")
        self.levels[subject] = body["compatibility"]
        return 200, body


@contextmanager
def serving(registry: Registry) -> Iterator[Registry]:
    """The registry on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # An answer in one packet: two would wait for each other.
        wbufsize = 65_536

        def _handle(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            content = self.rfile.read(size)
            media_type = self.headers.get("Content-Type", "")
            if content and media_type != "application/vnd.schemaregistry.v1+json":
                registry.faults.append(f"media type {media_type}")
            if registry.authorization and self.headers.get("Authorization") != (
                registry.authorization
            ):
                status, told = 401, {"error_code": 40101, "message": "Unauthorized"}
            else:
                path = urlsplit(self.path).path
                body = json.loads(content) if content else None
                status, told = registry.answer(self.command, path, body)
            sent = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = do_PUT = _handle  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        registry.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join(10)


def basic(user: str) -> str:
    return f"Basic {base64.b64encode(user.encode()).decode()}"
