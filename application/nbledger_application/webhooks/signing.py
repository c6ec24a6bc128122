"""Signatures of Standard Webhooks 1.0: ``v1``, HMAC with SHA-256."""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID


def signed_headers(
    event_id: UUID, at: datetime, body: bytes, secrets: Sequence[bytes]
) -> dict[str, str]:
    """The headers of a message that is sent at this time, with a signature for each secret."""
    seconds = int(at.timestamp())
    content = b"%b.%d.%b" % (str(event_id).encode(), seconds, body)
    signatures = [
        base64.b64encode(hmac.new(secret, content, hashlib.sha256).digest()).decode()
        for secret in secrets
    ]
    return {
        "webhook-id": str(event_id),
        "webhook-timestamp": str(seconds),
        "webhook-signature": " ".join(f"v1,{each}" for each in signatures),
    }
