"""Examples of a tenant's log; its signature and its proofs hold."""

from typing import Any

from nbledger_http.description.example_ids import NOTEBOOK_ID, PROJECT_ID

_TENANT_ID = "550e8400-e29b-41d4-a716-446655440000"
_ORIGIN = f"nbledger.example.com/audit/log/{_TENANT_ID}"
_URL = f"https://{_ORIGIN}"
_KEY = f"{_ORIGIN}+0df5efe3+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
_WITNESS = "audit.customer.example/w1"
_WITNESS_KEY = f"{_WITNESS}+f252e43b+BLDvac9mmAMfo6UM3ZhuGEswRR4MUnSlB9TyBI0y+MK1"

LOG: dict[str, Any] = {
    "origin": _ORIGIN,
    "verifierKeys": [_KEY],
    "size": 3,
    "checkpointAt": "2024-01-15T10:30:07.000Z",
    "signedSize": 3,
    "maximumAgeSeconds": 3600,
    "witnesses": [
        {
            "name": _WITNESS,
            "verifierKey": _WITNESS_KEY,
            "size": 3,
            "cosignedAt": "2024-01-15T10:30:07.000Z",
            "problem": None,
        }
    ],
    "links": {
        "checkpoint": f"{_URL}/checkpoint",
        "tiles": f"{_URL}/tile",
        "entries": f"{_URL}/tile/entries",
        "inclusion": f"{_URL}/inclusion",
        "consistency": f"{_URL}/consistency",
        "timestamps": f"{_URL}/timestamps",
        "policy": f"{_URL}/policy",
    },
}

CHECKPOINT = (
    f"{_ORIGIN}\n3\nKhLU+8vLAyaRH6cI7c8rXpyuO+skuR3xfy5sV+5F6ck=\n\n— {_ORIGIN} "
    "DfXv44zABpH9ih9CYZ5cfeNbhAtgFCphCwA3YVNbvARW4kw8jrh+fo97D1hDLDcGdrSKybn1dpZU3P7ntQ/vBYMi"
    "+Qs=\n"
)

POLICY = f"""\
# Trust policy of a transparency log: https://c2sp.org/tlog-policy
# maximum-age 3600
log {_KEY} {_URL}
witness {_WITNESS} {_WITNESS_KEY}
quorum {_WITNESS}
"""

INCLUSION: dict[str, Any] = {
    "number": 2,
    "entry": (
        '{"chain":"9c0abe51c6e6655d81de2d044d4fb194931f058c0426c67c7285d8f5657ed64a",'
        '"data":"e788103ee15318fcd2af9b73b4ebbb33a903b020de7b307d71f5fed0f433e548",'
        '"id":"00000000-0000-0000-0000-000000000003",'
        '"metadata":"29c1b289e7522195b362e44f54e05470b69ad20540ab60a18a05e5bf6951f13d",'
        '"number":2,"occurredAt":"2024-01-15T10:30:00.000000Z","position":42,'
        f'"project":"{PROJECT_ID}","recordedAt":"2024-01-15T10:30:00.004200Z",'
        f'"stream":"{NOTEBOOK_ID}","subject":"{NOTEBOOK_ID}","tenant":"{_TENANT_ID}",'
        '"type":"notebook.renamed.v1","v":1,"version":3}'
    ),
    "hashes": ["VxzplpRae5nstW7xEdIbW6E90bgW8HndzMuxoK+t8Ww="],
    "checkpoint": CHECKPOINT,
}

CONSISTENCY: dict[str, Any] = {
    "from": 2,
    "to": 3,
    "hashes": ["5Ei34QcnKiqqWDuvYgCeed+cgmfT8+XeCjO3lYjuoqc="],
    "checkpoint": CHECKPOINT,
}

TIMESTAMPS: dict[str, Any] = {
    "items": [
        {
            "size": 3,
            "at": "2024-01-15T10:30:08.000Z",
            "checkpoint": CHECKPOINT,
            "response": "MIICvDADAgEAMIICswYJKoZIhvcNAQcCoIICpDCCAqA=",
        }
    ]
}
