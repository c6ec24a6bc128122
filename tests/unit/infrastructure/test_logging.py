"""What a log line looks like, and what never stands in one."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import logging, sys, structlog
from nbledger_infrastructure.logging import configure
from nbledger_infrastructure.settings import Log

configure(Log(format=sys.argv[1], level=sys.argv[2]), role="api")
log = structlog.get_logger("nbledger")

def fail(password):
    token = "nbl_" + password
    raise ValueError("failed")

with structlog.contextvars.bound_contextvars(execution_id="bb0e8400"):
    log.info("request", status=200, odd=object)
log.debug("details")
logging.getLogger("aiokafka").warning("lost %s", "broker")
logging.getLogger("aiokafka").info("chatter")
for logger in (log, logging.getLogger("asyncpg")):
    try:
        # Not as a literal: Python 3.13 shows the lines of this program, too.
        fail(sys.argv[3])
    except ValueError:
        logger.exception("it failed")
"""


def lines(form: str, level: str) -> list[str]:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, form, level, "hunter2"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ended.stdout == "", "the log goes to standard error"
    return ended.stderr.splitlines()


def test_every_line_is_json_with_time_level_and_context() -> None:
    records = [json.loads(line) for line in lines("json", "info")]
    assert [record["event"] for record in records] == [
        "request",
        "lost broker",
        "it failed",
        "it failed",
    ]
    assert all(record["role"] == "api" and record["timestamp"][-1] == "Z" for record in records)
    assert records[0]["level"] == "info"
    assert records[0]["execution_id"] == "bb0e8400"
    assert "execution_id" not in records[1]
    assert records[1]["logger"] == "aiokafka"
    assert records[2]["exception"][0]["exc_type"] == "ValueError"
    assert records[3]["exception"][0]["frames"][-1]["name"] == "fail"


def test_the_level_is_honoured() -> None:
    assert len(lines("json", "error")) == 2
    assert any("details" in line for line in lines("json", "debug"))


@pytest.mark.parametrize("form", ["json", "console"])
def test_tracebacks_hold_no_values(form: str) -> None:
    assert "hunter2" not in "\n".join(lines(form, "debug"))
