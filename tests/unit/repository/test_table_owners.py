"""Each table has one room that owns it, and no statement elsewhere touches it."""

import ast
import re
from collections.abc import Iterator, Mapping

import pytest
from support.paths import ROOT, SOURCE_ROOTS

MIGRATIONS = ROOT / "infrastructure/nbledger_infrastructure/postgres/migrations"

OWNERS: Mapping[str, str] = {
    "api_token": "infrastructure",
    "automation": "application",
    "automation_since": "application",
    "automation_trigger": "application",
    "command_topic": "workers",
    "dataset_details": "projections",
    "dataset_snapshot": "projections",
    "erasure": "infrastructure",
    "event": "infrastructure",
    "event_replay": "infrastructure",
    "event_topic": "infrastructure",
    "execution_lease": "application",
    "execution_action": "projections",
    "execution_list": "projections",
    "execution_queue": "application",
    "execution_results": "projections",
    "execution_snapshot": "projections",
    "execution_status": "projections",
    "execution_tag": "projections",
    "execution_usage": "application",
    "failing_schedule": "application",
    "idempotency_key": "application",
    "kernel_outage": "application",
    "lease_watch": "application",
    "library_details": "projections",
    "log_bundle": "audit",
    "log_checkpoint": "audit",
    "log_delivery": "audit",
    "log_key": "audit",
    "log_policy": "audit",
    "log_tile": "audit",
    "log_timestamp": "audit",
    "log_witness": "audit",
    "notebook_details": "projections",
    "notebook_duration": "projections",
    "notebook_list": "projections",
    "notebook_list_count": "projections",
    "notebook_list_project": "projections",
    "notebook_run_limit": "application",
    "notebook_snapshot": "projections",
    "notice_list": "projections",
    "principal": "infrastructure",
    "projection_checkpoint": "infrastructure",
    "projection_rebuild": "projections",
    "queue_pace": "application",
    "queue_share": "application",
    "schedule": "application",
    "schedule_firing": "projections",
    "schedule_list": "projections",
    "schedule_run": "application",
    "schema_migration": "infrastructure",
    "secret_key": "http",
    "trigger_list": "projections",
    "state_topic": "projections",
    "usual_duration": "application",
    "transparency_log": "audit",
    "webhook_attempt": "application",
    "webhook_delivery": "application",
    "webhook_details": "projections",
    "webhook_redelivery": "application",
    "webhook_secret": "application",
    "webhook_subscription": "application",
    "worker": "infrastructure",
}
"""Tables and views, each with the room whose statements read and write it."""

READ_BY: Mapping[tuple[str, str], str] = {
    ("event", "application"): "decides on what has happened, such as which runs have not ended",
    ("event", "audit"): "makes entries of logs of them",
    ("event", "projections"): "folds events into read models, and those that a model lacks yet",
    ("erasure", "application"): "erases what ends after its notebook was erased",
    ("erasure", "projections"): "tells of histories and of the past since when data is erased",
    ("execution_usage", "projections"): "the view that is made for the status of an execution",
    ("projection_checkpoint", "projections"): "how far a read model has come, read with its rows",
    ("projection_checkpoint", "workers"): "the relay's: what comes after it is not published yet",
}
"""Who reads the table of another room all the same, and why. Nobody writes one."""

_WORDS = re.compile(
    r"\b(?P<verb>FROM|JOIN|USING|INSERT\s+INTO|DELETE\s+FROM|UPDATE|(?:ALTER|LOCK|TRUNCATE|DROP|INTO)"
    r"(?:\s+TABLE)?|TABLE)\s+(?:ONLY\s+)?(?P<table>\w+)"
)
_COMMENTS = re.compile(r"--[^\n]*")
_READING = ("FROM", "JOIN", "USING")


def touched(text: str) -> Iterator[tuple[str, bool]]:
    """The tables that a statement names, each with whether it is only read there."""
    for found in _WORDS.finditer(_COMMENTS.sub("", text)):
        if found["table"] in OWNERS:
            yield found["table"], found["verb"] in _READING


def statements() -> Iterator[tuple[str, str, str]]:
    """All texts in the code that may be SQL: room, place, text."""
    for room in SOURCE_ROOTS:
        for path in sorted((ROOT / room).rglob("*.py")):
            place = str(path.relative_to(ROOT))
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield room, f"{place}:{node.lineno}", node.value


@pytest.fixture(scope="module")
def found() -> list[tuple[str, str, str, bool]]:
    """Every use of a table: room, place, table, whether it is only read."""
    return [
        (room, place, table, reads)
        for room, place, text in statements()
        for table, reads in touched(text)
    ]


def test_every_table_has_an_owner() -> None:
    made = {"schema_migration"}
    for path in MIGRATIONS.glob("*.sql"):
        made.update(re.findall(r"^CREATE (?:TABLE|VIEW) (\w+)", path.read_text(), re.MULTILINE))
    assert made == set(OWNERS)


def test_no_statement_touches_the_table_of_another_room(
    found: list[tuple[str, str, str, bool]],
) -> None:
    foreign = [
        (place, table, reads)
        for room, place, table, reads in found
        if OWNERS[table] != room and not (reads and (table, room) in READ_BY)
    ]
    assert foreign == []


def test_exceptions_are_needed(found: list[tuple[str, str, str, bool]]) -> None:
    assert {(table, room) for room, _, table, _ in found if OWNERS[table] != room} == set(READ_BY)


def test_statements_are_understood(found: list[tuple[str, str, str, bool]]) -> None:
    assert list(touched("SELECT 1 FROM event -- FROM worker\nJOIN execution_lease AS l")) == [
        ("event", True),
        ("execution_lease", True),
    ]
    for text in (
        "INSERT INTO worker (a) VALUES (1)",
        "UPDATE worker SET a = 1",
        "DELETE FROM worker",
        "ALTER TABLE worker ADD a integer",
        "TRUNCATE worker",
        "LOCK TABLE worker",
    ):
        assert list(touched(text)) == [("worker", False)], text
    # Statements for the table of a read model are put together from what it declares.
    # Those of the queue's shares are written by functions in the database alone.
    unseen = set(OWNERS) - {table for _, _, table, _ in found}
    in_database = {"notebook_run_limit", "queue_pace"}
    read_models = {name for name, room in OWNERS.items() if room == "projections"}
    assert unseen <= read_models | in_database
