"""What all tests share: real services, started once per run and only when a test asks for them."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from support.campaigns import PROPERTY
from support.databases import create_database, drop_database
from support.services import (
    KAFKA_VARIABLE,
    KAFKAS,
    begin_run,
    end_run,
    kafka_name,
    run_folder,
    service_address,
)

# How long an example takes says how busy the machine is. Each run draws others, so that few will
# do; `--hypothesis-profile=thorough` draws many.
for profile, examples in (("any machine", 50), ("thorough", 1000)):
    hypothesis.settings.register_profile(
        profile,
        deadline=None,
        max_examples=examples,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
hypothesis.settings.load_profile("any machine")


def pytest_configure(config: pytest.Config) -> None:
    del config
    if kafka_name() not in KAFKAS:
        raise pytest.UsageError(f"{KAFKA_VARIABLE} must be one of {', '.join(KAFKAS)}")
    begin_run()


# Fast ones first, then the longest modules: small ones at the end keep all processes busy to it.
_ORDER = ("unit", "acceptance", "crash", "integration/kernel", "integration/workers", "integration")


def _place(item: pytest.Item) -> int:
    path = item.path.relative_to(Path(__file__).parent)
    return next((at for at, room in enumerate(_ORDER) if path.is_relative_to(room)), len(_ORDER))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_place)
    for item in items:
        if "kafka" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.kafka)
        for marker in item.iter_markers("stalls"):
            # The JUnit report tells CI which failures may be tried again.
            item.user_properties.append(("stalls", _reason(item, marker)))


def _reason(item: pytest.Item, marker: pytest.Mark) -> str:
    """What outside stall the test suffers; a marker that does not say so is an error."""
    match marker.args:
        case (str(reason),) if reason.strip():
            return reason
        case _:
            raise pytest.UsageError(f"{item.nodeid}: stalls() needs the reason, as text")


def pytest_unconfigure(config: pytest.Config) -> None:
    del config
    end_run()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the campaigns have counted."""
    lines = [
        str(value)
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        for name, value in report.user_properties
        if name == PROPERTY
    ]
    if lines:
        terminalreporter.section("campaigns")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def postgres_dsn() -> str:
    """DSN of the shared server's own database, as its owner; make databases there, no tables."""
    return service_address("postgres")


@pytest.fixture
def database_dsn() -> Iterator[str]:
    """DSN of a fresh, migrated database that is this test's alone."""
    dsn = create_database()
    yield dsn
    drop_database(dsn)


@pytest.fixture(scope="session")
def kafka() -> str:
    """Bootstrap servers of the shared broker; keep to topics of your own (`topic_prefix`)."""
    return service_address(kafka_name())


@pytest.fixture
def topic_prefix() -> str:
    """A prefix for topics and consumer groups that no other test has."""
    return f"t{uuid.uuid4().hex[:16]}"


@pytest.fixture
def service_dir() -> Iterator[Path]:
    """A fresh folder that also a database running as another user can reach, as tmp_path is not."""
    folder = Path(tempfile.mkdtemp(prefix="s", dir=run_folder()))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)
