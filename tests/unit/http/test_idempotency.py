"""The header Idempotency-Key, and what makes two requests the same."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbledger_domain.errors import InvalidInputError
from nbledger_http.representations.idempotency import MAX_KEY, beyond_defaults, parsed_key
from nbledger_http.requests.runs import asked_of
from nbledger_infrastructure.settings import Executions

LIMITS = Executions()
QUOTED = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=MAX_KEY
)


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ('"8e03978e-40d5-43dd-bc93-6894a57f9324"', "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ("8e03978e-40d5-43dd-bc93-6894a57f9324", "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ('  "a b"\t', "a b"),
        (r'"a\"b\\c"', 'a"b\\c'),
        ('"a";v=1', "a"),
        ("order/2026:11=29", "order/2026:11=29"),
        ("x" * 255, "x" * 255),
    ],
)
def test_keys_are_read(value: str, key: str) -> None:
    assert parsed_key([value]) == key


@pytest.mark.parametrize(
    "value",
    [
        "",
        '""',
        '"',
        '"a',
        'a"',
        r'"a\b"',
        '"a" "b"',
        '"a", "b"',
        "a b",
        "a,b",
        "a;b",
        r"a\b",
        "\xe9",
        '"\xe9"',
        "a\x7f",
        "a\n",
        "x" * 256,
        '"' + "x" * 256 + '"',
    ],
)
def test_what_is_no_key_is_refused_by_name(value: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        parsed_key([value])
    (fault,) = refused.value.faults
    assert fault.pointer == "Idempotency-Key"


def test_a_key_is_there_once() -> None:
    with pytest.raises(InvalidInputError):
        parsed_key(["a", "a"])


@given(QUOTED)
def test_every_string_of_structured_fields_is_a_key(key: str) -> None:
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    assert parsed_key([f'"{escaped}"']) == key


@given(st.text(max_size=300))
def test_whatever_is_sent_is_a_key_or_refused(value: str) -> None:
    try:
        key = parsed_key([value])
    except InvalidInputError:
        return
    assert 1 <= len(key) <= MAX_KEY
    assert key.isascii()
    assert key.isprintable()


def _same(one: dict[str, Any], other: dict[str, Any], limits: Executions = LIMITS) -> bool:
    return bool(beyond_defaults(asked_of(one, LIMITS)) == beyond_defaults(asked_of(other, limits)))


@pytest.mark.parametrize(
    "body",
    [
        {"priority": "Normal"},
        {"priority": None, "parameters": None},
        {"parameters": {}},
        {"timeout": 1800},
        {"executionMode": "all"},
        {"outputOptions": {}},
        {"outputOptions": {"captureOutputs": True, "generateReport": False}},
        {"strictParameters": False, "continueOnError": False},
    ],
)
def test_what_is_as_it_would_be_anyway_asks_for_nothing_else(body: dict[str, Any]) -> None:
    assert _same({}, body)


@pytest.mark.parametrize(
    "body",
    [
        {"priority": "High"},
        {"parameters": {"a": 1}},
        {"timeout": 60},
        {"cellTimeout": 1800},
        {"cellRange": {"startCell": "cell-001"}},
        {"outputOptions": {"captureOutputs": False}},
        {"strictParameters": True},
        {"retryPolicy": {}},
    ],
)
def test_what_differs_asks_for_something_else(body: dict[str, Any]) -> None:
    assert not _same({}, body)
    assert _same(body, {**body, "priority": body.get("priority", "Normal")})


def test_kinds_of_numbers_differ_in_parameters_and_nowhere_else() -> None:
    def asked(body: bytes) -> bytes:
        found = beyond_defaults(asked_of(msgspec.json.decode(body), LIMITS))
        return msgspec.json.encode(found, order="sorted")

    assert asked(b'{"parameters": {"a": 1}}') != asked(b'{"parameters": {"a": 1.0}}')
    assert asked(b'{"timeout": 60}') == asked(b'{"timeout": 60.0}')
    assert asked(b'{"parameters": {"a": 1, "b": 2}}') == asked(
        b'{"parameters": {"b": 2,  "a": 1}, "priority": "Normal"}'
    )
    large = b'{"parameters": {"a": %d}}'
    assert asked(large % 2**70) != asked(large % (2**70 + 1))


def test_the_same_request_stays_the_same_when_a_default_changes() -> None:
    assert _same({}, {}, Executions(default_timeout=60.0))
