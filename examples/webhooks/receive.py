"""A receiver of webhooks: checks the signature, does the work once for each event, then answers.

    WEBHOOK_SECRET=whsec_… python receive.py 8000 webhooks.sqlite

WEBHOOK_SECRET may name two secrets with a space between, while one is replaced by the other.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

SECRETS = [Webhook(secret) for secret in os.environ["WEBHOOK_SECRET"].split()]
MOST_BYTES = 1024 * 1024


def verified(body: bytes, headers: dict[str, str]) -> dict[str, Any]:
    """The event, if one of the secrets has signed it within the last five minutes."""
    for each in SECRETS:
        try:
            event: dict[str, Any] = each.verify(body, headers)
        except WebhookVerificationError:
            continue
        return event
    raise WebhookVerificationError("no secret has signed this")


def handle(database: sqlite3.Connection, event: dict[str, Any]) -> None:
    """Do the work and note the event in one transaction: it comes at least once."""
    with database:
        new = database.execute("INSERT OR IGNORE INTO seen VALUES (?)", (event["id"],)).rowcount
        if new:
            print(event["sequence"], event["type"], event["subject"], flush=True)


class Receiver(BaseHTTPRequestHandler):
    """Answers 204 once the work is done; 400 for what nobody has signed."""

    database: sqlite3.Connection

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", "0"))
        if length > MOST_BYTES:
            self.send_error(413)
            return
        try:
            event = verified(self.rfile.read(length), dict(self.headers))
        except (WebhookVerificationError, ValueError):
            self.send_error(400)
            return
        handle(self.database, event)
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing but the events."""


if __name__ == "__main__":
    Receiver.database = sqlite3.connect(sys.argv[2])
    Receiver.database.execute("CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY)")
    HTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
