"""What the API says of packages, libraries and templates."""

from __future__ import annotations

from pathlib import Path

import msgspec
from support.api import Api, new_notebook, running_api, settings_for
from support.shared_api import api, api_server

from nbledger_infrastructure.notebooks import templates
from nbledger_infrastructure.postgres.tokens import Role
from nbledger_infrastructure.settings import Environments

__all__ = ["api", "api_server"]


async def test_a_bad_requirement_is_named(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    packages = ["pandas", "pandas=>3", "x @ https://example.com/x.whl", "scikit-learn[extra]>=1,<9"]
    body = {"notebookName": "N", "environment": {"packages": packages}}
    notebook = await new_notebook(client)
    for answer in (
        await client.post("/notebook", json=body),
        await client.put(f"/notebook/{notebook['notebookId']}", json=body),
    ):
        assert answer.status_code == 422
        faults = {fault["pointer"]: fault["reason"] for fault in answer.json()["errors"]}
        assert list(faults) == ["/environment/packages/1", "/environment/packages/2"]
        assert "'pandas=>3' is no requirement" in faults["/environment/packages/1"]
        assert "no address" in faults["/environment/packages/2"]


async def test_packages_are_kept_as_they_were_given(api: Api) -> None:
    client = await api.client(Role.EDITOR)
    asked = {
        "packages": ["Pandas>=3", "mindzie-sdk"],
        "customLibraries": ["process_mining_utils", "ml_models"],
    }
    made = await new_notebook(client, environment=asked)
    assert made["environment"] == asked
    (warning,) = [each for each in made["warnings"] if "kernelType" not in each]
    assert warning.startswith("customLibraries: the project has no library 'ml_models'")
    # What was said once is not said again.
    path = f"/notebook/{made['notebookId']}"
    again = await client.put(path, json={"environment": asked, "notebookName": "Other"})
    assert again.json()["warnings"] == []


async def test_a_folder_of_libraries_makes_them_known_and_provisioning_can_be_off(
    database_dsn: str, tmp_path: Path
) -> None:
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    (libraries / "ml_models.py").write_text("")
    settings = msgspec.structs.replace(
        settings_for(database_dsn, tmp_path / "artifacts"),
        environments=Environments(provisioning=False, library_folder=str(libraries)),
    )
    async with running_api(settings) as api:
        client = await api.client(Role.EDITOR)
        asked = {"packages": ["seaborn"], "customLibraries": ["ml-models"]}
        made = await new_notebook(client, environment=asked)
        warnings = [each for each in made["warnings"] if "kernelType" not in each]
        assert warnings == [
            "packages: this service installs none; cells can import only what their kernel has"
        ]


async def test_templates_are_listed_and_an_unknown_one_names_them(api: Api) -> None:
    client = await api.client(Role.READER)
    listed = (await client.get("/template")).json()["templates"]
    assert [each["name"] for each in listed] == list(templates.names())
    starter = listed[-1]
    assert starter["title"] == "Process mining starter"
    assert starter["kernelType"] == "python3"
    assert {name: starter["parameters"][2][name] for name in ("name", "default")} == {
        "name": "include_weekends",
        "default": True,
    }
    assert (await api.anonymous(base=api.base).get("/template")).status_code == 401

    editor = await api.client(Role.EDITOR)
    for each in listed:
        made = await new_notebook(editor, template=each["name"])
        assert made["template"] == each["name"]
        assert made["cells"][0]["content"].startswith(f"# {each['title']}")
    unknown = await editor.post("/notebook", json={"notebookName": "N", "template": "none"})
    assert unknown.status_code == 422
    (fault,) = unknown.json()["errors"]
    assert fault["pointer"] == "/template"
    assert all(name in fault["reason"] for name in templates.names())
