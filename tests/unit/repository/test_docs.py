"""The documentation against the program: links, settings, event types, commands."""

import re
import subprocess
from pathlib import Path

import click
import msgspec
import pytest
from support.paths import ROOT, SOURCE_ROOTS

from nbledger.main import main
from nbledger_domain import (
    dataset,
    events,
    execution,
    execution_action,
    histories,
    library,
    notebook,
    notices,
    webhook,
)
from nbledger_http.replies.problems import KINDS
from nbledger_infrastructure.settings_loading import environment_names
from nbledger_workers.kernel.protocol import RunNotebook

PAGES = sorted(
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
)
page = pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
# Told by `up` itself, to a notebook, or to tests; not by a section of the settings.
OTHER_VARIABLES = {
    "NBLEDGER_REGISTRY_TOKEN",
    "NBLEDGER_REGISTRY_USER",
    "NBLEDGER_PROJECT",
    "NBLEDGER_TENANT",
    "NBLEDGER_TOKEN",
    "NBLEDGER_URL",
    "NBLEDGER_HOME",
    "NBLEDGER_PORT",
    "NBLEDGER_CONFIG",
    "NBLEDGER_RUN_FILE",
    "NBLEDGER_CAMPAIGN",
}


@page
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text()):
        if not target.startswith("https://"):
            assert (path.parent / target).exists(), target


@page
def test_links_lead_to_headings(path: Path) -> None:
    for target, heading in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", path.read_text()):
        page_of = (path.parent / target) if target else path
        headings = re.findall(r"(?m)^#+ (.+)$", page_of.read_text())
        assert heading in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}


@page
def test_paths_exist(path: Path) -> None:
    roots = "|".join(("tests", "docs", "deploy", "benchmarks", *SOURCE_ROOTS))
    named = set(re.findall(rf"`((?:{roots})/[\w./-]+)`", path.read_text()))
    # Media types look like paths.
    named -= {each for each in named if each.startswith("application/") and "nbledger" not in each}
    assert {each for each in named if not (ROOT / each).exists()} == set()


def test_the_times_of_stopping_are_those_of_the_program() -> None:
    (grace,) = (f.default for f in msgspec.structs.fields(RunNotebook) if f.name == "grace")
    docs = ROOT / "docs"
    steps = (docs / "api.md").read_text()
    assert f"after {grace:g} seconds it gets SIGTERM" in steps
    assert f"after {grace:g} seconds more SIGKILL" in steps
    told = " ".join((docs / "deployment.md").read_text().split())
    assert f"SIGTERM after {grace:g} seconds, SIGKILL after {grace:g} more" in told


@page
def test_settings_exist(path: Path) -> None:
    named = set(re.findall(r"NBLEDGER_[A-Z_]+[A-Z]", path.read_text()))
    known = set(environment_names()) | OTHER_VARIABLES
    assert {name for name in named if not name.startswith("NBLEDGER_TEST")} <= known


@page
def test_commands_exist(path: Path) -> None:
    text = path.read_text()
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    inline = "\n".join(re.findall(r"`(nbledger [^`]+)`", text))
    for words in re.findall(r"(?m)^nbledger ([a-z |]+)", f"{blocks}\n{inline}"):
        command: click.Command | None = main
        for word in words.split():
            if not isinstance(command, click.Group):
                break
            found = command.get_command(click.Context(command), word)
            if found is None:
                break
            command = found
        assert command is not main, f"nbledger {words}"
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    assert set(re.findall(r"`make ([a-z-]+)`", text)) <= targets


def test_every_event_type_is_described_and_no_other() -> None:
    assert notebook.Notebook.Created.TYPE in events.EVENT_TYPES.classes
    assert dataset.Dataset.Created.TYPE in events.EVENT_TYPES.classes
    assert library.Library.Uploaded.TYPE in events.EVENT_TYPES.classes
    assert notices.RunNotice.Slow.TYPE in events.EVENT_TYPES.classes
    assert execution_action.ExecutionAction.Requested.TYPE in events.EVENT_TYPES.classes
    assert histories.HistoryRead.Read.TYPE in events.EVENT_TYPES.classes
    assert webhook.Webhook.Created.TYPE in events.EVENT_TYPES.classes
    text = (ROOT / "docs" / "events.md").read_text()
    kinds = (
        "notebook|execution|dataset|library|schedule|firing|trigger|action|notice|history|webhook"
    )
    described = set(re.findall(rf"`((?:{kinds})\.[a-z-]+\.v\d+)`", text))
    assert described == events.EVENT_TYPES.readable()
    for type_name, (event_class, _) in events.EVENT_TYPES.classes.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{type_name}`"))
        envelope = {"originatorId", "originatorVersion", "timestamp", "originatorTopic"}
        for field in set(event_class.__struct_encode_fields__) - envelope:
            assert f"`{field}`" in row, f"{type_name}: {field}"


def test_every_termination_code_is_described_and_no_other() -> None:
    listed = (ROOT / "docs" / "events.md").read_text()
    text = (ROOT / "docs" / "api.md").read_text()
    described = {
        code: (category, told)
        for code, category, told in re.findall(
            r"(?m)^\| `([a-z_]+)` \| `([a-z_]+)` \| \w+ \| (.+) \|$", text
        )
    }
    assert set(described) == set(execution.TerminationCode)
    for code in execution.TerminationCode:
        category, told = described[code]
        assert category == code.category
        assert told.startswith(code.meaning)
        assert f"`{code}`" in listed


DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_record_has_all_its_sections(path: Path) -> None:
    text = path.read_text()
    title, status = re.match(r"# (.+)\n\nStatus: (\w+)\.", text).groups()  # type: ignore[union-attr]
    assert status in {"accepted", "superseded"}
    sections = re.findall(r"(?m)^## (.+)\n\n(.)", text)
    assert [name for name, _ in sections] == [
        "Context",
        "Decision",
        "Alternatives",
        "Consequences",
    ]
    assert f"[{path.name[:4]}]({path.name}) {title}\n" in (path.parent / "README.md").read_text()


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, ahead = set[Path](), [ROOT / "README.md"]
    while ahead:
        at = ahead.pop()
        reached.add(at)
        links = re.findall(r"\]\(([^)#:]+\.md)[^)]*\)", at.read_text())
        ahead += {(at.parent / link).resolve() for link in links} - reached
    assert {each for each in PAGES if each.is_relative_to(ROOT / "docs")} <= reached


def test_python_in_the_readme_is_python() -> None:
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL):
        compile(block, "README.md", "exec")


def test_every_error_code_is_described_and_no_other() -> None:
    text = (ROOT / "docs" / "api.md").read_text()
    described = dict(re.findall(r"(?m)^\| `([a-z_]+)` \| (\d{3}) \|", text))
    assert described == {str(code): str(kind.status) for code, kind in KINDS.items()}
