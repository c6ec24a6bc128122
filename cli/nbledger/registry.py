"""Pushing schemas to a registry that speaks Confluent's Schema Registry API."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import quote

import httpx
import msgspec

from nbledger_schemas import Schema, located, published, states

USER_VARIABLE: Final = "NBLEDGER_REGISTRY_USER"
"""Environment variable: ``user:password`` for basic authentication."""
TOKEN_VARIABLE: Final = "NBLEDGER_REGISTRY_TOKEN"  # noqa: S105 (a name)
"""Environment variable: a bearer token."""

COMPATIBILITIES: Final = (
    *("NONE", "BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE"),
    *("FULL", "FULL_TRANSITIVE"),
)
Dialect: TypeAlias = Literal["2020-12", "draft-07"]
Naming: TypeAlias = Literal["record", "topic-record"]
Outcome: TypeAlias = Literal["registered", "unchanged"]

_DRAFT_7: Final = "http://json-schema.org/draft-07/schema#"
_MEDIA_TYPE: Final = "application/vnd.schemaregistry.v1+json"
_SECONDS: Final = 30.0
_NO_SCHEMA: Final = 404
_INCOMPATIBLE: Final = 409


class RegistryError(Exception):
    """The registry cannot be reached, or refuses; the message says why, and what can be done."""


class Subject(msgspec.Struct, frozen=True):
    """A schema, under the name that it has in the registry."""

    name: str
    schema: str


class Pushed(msgspec.Struct, frozen=True):
    """What has become of a subject, or would; with the compatibility that was set, if it was."""

    subject: str
    outcome: Outcome
    compatibility: str | None


def subjects(
    base: str, *, topic_prefix: str, naming: Naming = "record", dialect: Dialect = "2020-12"
) -> list[Subject]:
    """All schemas, with addresses that begin with ``base``, as ``dialect``.

    ``naming`` is that of Confluent's strategies RecordName, after the type of the message, and
    TopicRecordName, which puts the topic before it.
    """
    found = []
    for name, schema in {**published(), **states()}.items():
        record = f"nbledger.{name}"
        topic = name.partition(".")[0] if name in states() else "events"
        whole = located(schema, base)
        told = whole if dialect == "2020-12" else _as_draft_7(whole)
        subject = record if naming == "record" else f"{topic_prefix}.{topic}-{record}"
        found.append(Subject(subject, msgspec.json.encode(told).decode()))
    return found


def credentials(environment: Mapping[str, str] = os.environ) -> Mapping[str, Any]:
    """What a client of httpx is to be made with. Raises :class:`RegistryError`."""
    user, token = environment.get(USER_VARIABLE), environment.get(TOKEN_VARIABLE)
    if user and token:
        raise RegistryError(f"{USER_VARIABLE} and {TOKEN_VARIABLE} exclude each other")
    if token:
        return {"headers": {"Authorization": f"Bearer {token}"}}
    if user:
        name, _, password = user.partition(":")
        return {"auth": httpx.BasicAuth(name, password)}
    return {}


class Registry:
    """A registry at a URL, such as ``https://registry.example.com/apis/ccompat/v7``."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        # Redirects are not followed: credentials would go where they lead.
        self._http = httpx.Client(timeout=_SECONDS, **options)
        self._url = url.rstrip("/")

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def push(
        self, wanted: Sequence[Subject], *, compatibility: str | None, dry_run: bool
    ) -> Iterator[Pushed]:
        """Register what is not there yet; with ``dry_run`` nothing is changed, only asked.

        The compatibility of each subject is set to ``compatibility``, if one is given. Raises
        :class:`RegistryError` at the first one that is refused.
        """
        for subject in wanted:
            known = self._has(subject)
            # Before the schema, which the setting before may refuse.
            changed = compatibility and self._sets(subject, compatibility, dry_run=dry_run)
            if not known and dry_run:
                self._check(subject)
            elif not known:
                self._register(subject)
            if compatibility and changed is None:
                # To some registries the first schema makes the subject, which then takes a setting.
                changed = self._sets(subject, compatibility, dry_run=dry_run)
            yield Pushed(
                subject.name,
                "unchanged" if known else "registered",
                compatibility if changed else None,
            )

    def _has(self, subject: Subject) -> bool:
        answer = self._ask("POST", f"subjects/{quote(subject.name, safe='')}", _body(subject))
        return self._told(answer, subject.name, missing=_NO_SCHEMA) is not None

    def _register(self, subject: Subject) -> None:
        path = f"subjects/{quote(subject.name, safe='')}/versions"
        told = self._told(self._ask("POST", path, _body(subject)), subject.name)
        if not isinstance(told, dict) or "id" not in told:
            raise RegistryError(f"{subject.name}: the answer has no id; is {self._url} a registry?")

    def _check(self, subject: Subject) -> None:
        path = f"compatibility/subjects/{quote(subject.name, safe='')}/versions/latest"
        answer = self._ask("POST", f"{path}?verbose=true", _body(subject))
        told = self._told(answer, subject.name, missing=_NO_SCHEMA)
        if told is not None and not told.get("is_compatible"):
            reasons = "; ".join(map(str, told.get("messages", ()))) or "it gives no reason"
            raise RegistryError(_incompatible(subject.name, reasons))

    def _sets(self, subject: Subject, compatibility: str, *, dry_run: bool) -> bool | None:
        """Whether the setting was another one; None where there is no such subject yet."""
        path = f"config/{quote(subject.name, safe='')}"
        told = self._told(self._ask("GET", path), subject.name, missing=_NO_SCHEMA)
        if told is not None and told.get("compatibilityLevel") == compatibility:
            return False
        if dry_run:
            return True
        answer = self._ask("PUT", path, {"compatibility": compatibility})
        return None if self._told(answer, subject.name, missing=_NO_SCHEMA) is None else True

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
        try:
            return self._http.request(
                method,
                f"{self._url}/{path}",
                content=None if body is None else msgspec.json.encode(body),
                headers={"Content-Type": _MEDIA_TYPE, "Accept": f"{_MEDIA_TYPE}, application/json"},
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RegistryError(f"{self._url} cannot be reached: {error!r}") from None

    def _told(self, answer: httpx.Response, subject: str, *, missing: int = 0) -> Any:
        """The answer's body; None where it says that nothing is there."""
        told = _decoded(answer)
        if answer.is_success and told is not None:
            return told
        code, message = _fault(told, answer)
        if answer.status_code == missing and code // 100 == _NO_SCHEMA:
            return None
        if answer.status_code == _INCOMPATIBLE:
            raise RegistryError(_incompatible(subject, message))
        raise RegistryError(f"{subject}: {answer.status_code} {message}{_advice(answer)}")


def _incompatible(subject: str, reason: str) -> str:
    return (
        f"{subject}: it is incompatible with a schema that the registry has: {reason}."
        " Schemas change by new optional members only, which the compatibility FORWARD_TRANSITIVE"
        " allows and BACKWARD and FULL do not."
    )


def _advice(answer: httpx.Response) -> str:
    if answer.status_code in (401, 403):
        return f": set {USER_VARIABLE} (user:password) or {TOKEN_VARIABLE}"
    if answer.is_redirect:
        return f": the registry has moved to {answer.headers.get('location')}"
    if answer.is_server_error or answer.status_code == 422:
        return ": a registry that does not know JSON Schema 2020-12 may take --dialect draft-07"
    return ""


def _decoded(answer: httpx.Response) -> Any:
    try:
        return msgspec.json.decode(answer.content)
    except msgspec.DecodeError:
        return None


def _fault(told: Any, answer: httpx.Response) -> tuple[int, str]:
    """The code (of five digits, or that of HTTP) and the words of a refusal."""
    if isinstance(told, dict) and isinstance(told.get("error_code"), int):
        return told["error_code"], str(told.get("message", ""))
    return 0, " ".join(answer.text.split())[:200] or answer.reason_phrase


def _body(subject: Subject) -> Mapping[str, Any]:
    return {"schemaType": "JSON", "schema": subject.schema}


def _as_draft_7(schema: Schema) -> Schema:
    """The same in the older form, which has another name for definitions.

    There, what stands beside a reference does not count, so it is put around it.
    """
    told: Schema = _renamed(schema)
    return {**told, "$schema": _DRAFT_7}


def _renamed(value: Any) -> Any:
    if isinstance(value, list):
        return [_renamed(each) for each in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for name, each in value.items():
        if name in ("properties", "$defs"):
            told = {key: _renamed(schema) for key, schema in each.items()}
            found["definitions" if name == "$defs" else name] = told
        elif name != "$ref":
            found[name] = (
                each if name in ("examples", "default", "enum", "const") else _renamed(each)
            )
    if "$ref" not in value:
        return found
    reference = {"$ref": value["$ref"].replace("#/$defs/", "#/definitions/")}
    return {**found, "allOf": [reference]} if found else reference
