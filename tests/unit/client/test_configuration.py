"""Where a client finds the server."""

from __future__ import annotations

from pathlib import Path

import pytest

from nbledger.embedded.home import ServerInfo, write_server_json
from nbledger_client.configuration import Connection, Given, resolve
from nbledger_client.errors import ConfigurationError

NAMED = {
    "NBLEDGER_URL": "https://nb.example.org/",
    "NBLEDGER_TOKEN": "secret",
    "NBLEDGER_TENANT": "t",
    "NBLEDGER_PROJECT": "p",
}


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """A folder that a running server has written into."""
    info = ServerInfo(
        url="http://127.0.0.1:8080",
        token="local",
        tenant_id="lt",
        project_id="lp",
        kafka="k",
        postgres="d",
    )
    write_server_json(tmp_path, info)
    return {"NBLEDGER_HOME": str(tmp_path)}


def test_what_is_given_comes_before_the_environment_and_that_before_a_local_server(
    home: dict[str, str],
) -> None:
    local = Connection(url="http://127.0.0.1:8080", token="local", tenant_id="lt", project_id="lp")
    assert resolve(environment=home) == local
    elsewhere = resolve(environment=home | NAMED)
    assert elsewhere.url == "https://nb.example.org"
    assert resolve(Given(project_id="mine"), environment=home | NAMED).project_id == "mine"
    assert resolve(Given(project_id="mine"), environment=home).token == "local"


def test_a_local_token_goes_to_no_other_server(home: dict[str, str]) -> None:
    named = {"NBLEDGER_URL": "https://nb.example.org"}
    assert resolve(environment=home | named).token == ""
    same = {"NBLEDGER_URL": "http://127.0.0.1:8080/"}
    assert resolve(environment=home | same).token == "local"


def test_a_named_token_goes_to_no_server_that_it_was_not_named_for(home: dict[str, str]) -> None:
    assert resolve(environment=home | {"NBLEDGER_TOKEN": "mine"}).token == "mine"
    assert resolve(Given(url="https://nb.example.org"), environment=NAMED).token == "secret"
    assert resolve(Given(url="https://other.example.org"), environment=NAMED).token == ""


def test_without_a_server_it_is_said_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"NBLEDGER_URL.*nbledger up"):
        resolve(environment={"NBLEDGER_HOME": str(tmp_path)})
    (tmp_path / "server.json").write_text("{")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        resolve(environment={"NBLEDGER_HOME": str(tmp_path)})


def test_a_connection_shows_no_secret() -> None:
    assert "secret" not in repr(resolve(environment=NAMED))
