"""``nbledger demo``: one notebook through the whole system, seen from outside."""

import asyncio
import json
import os
from typing import Any

import httpx
from rich.panel import Panel
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.syntax import Syntax
from rich.table import Table

from nbledger.commands.console import console, progress, show_addresses, show_table
from nbledger.commands.up import running
from nbledger.embedded.home import ServerInfo
from nbledger.errors import DemoFailedError
from nbledger_domain.vocabulary.addresses import project_path
from nbledger_infrastructure.settings import Settings

TEMPLATE = "process_mining_starter"
POLL_SECONDS = 0.1
REQUEST_SECONDS = 30.0
COLOURS = {"Success": "green", "Error": "red", "Skipped": "yellow"}


async def demonstrate(settings: Settings, stop: asyncio.Event) -> None:
    """Start everything, run the demonstration, and serve until ``stop``.

    Raises :class:`DemoFailedError`.
    """
    async with running(settings, progress=progress) as server:
        show_addresses(server)
        demonstration = asyncio.ensure_future(_demonstrate(server))
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait({demonstration, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not demonstration.done():
                return
            demonstration.result()
            if os.environ.get("DEMO_EXIT") != "1":
                console.print("Serving. Ctrl-C ends it.")
                await stopped
        finally:
            for task in (demonstration, stopped):
                task.cancel()
            await asyncio.gather(demonstration, stopped, return_exceptions=True)


async def _demonstrate(server: ServerInfo) -> None:
    base = server.url + project_path(server.tenant_id, server.project_id)
    headers = {"Authorization": f"Bearer {server.token}"}
    async with httpx.AsyncClient(base_url=base, headers=headers, timeout=REQUEST_SECONDS) as client:
        notebook = await _post(
            client,
            "/notebook",
            {
                "notebookName": "Process Mining Analysis",
                "notebookDescription": "Where do loan applications wait?",
                "kernelType": "python3",
                "template": TEMPLATE,
            },
        )
        path = f"/notebook/{notebook['notebookId']}"
        progress(f"Created a notebook from {TEMPLATE}: {len(notebook['cells'])} cells")
        execution = await _post(
            client,
            f"{path}/execute",
            {
                "parameters": {"analysis_period": "2024-01"},
                "outputOptions": {"generateReport": True},
                "timeout": 300,
            },
        )
        path = f"{path}/execution/{execution['executionId']}"
        status = await _follow(client, path)
        _show_cells(status)
        results = await _get(client, f"{path}/results?format=detailed")
        _show_outputs(results)
        _show_files(results)
        _show_links(base, path, notebook)
    if status["status"] != "Completed":
        raise DemoFailedError(f"the run ended as {status['status']}: {status.get('error')}")


async def _follow(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    columns = (
        TextColumn("{task.description:36}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bars:
        bar = bars.add_task("Queued", total=100)
        while True:
            status = await _get(client, path)
            done = status["progress"]["percentComplete"]
            doing = status.get("currentCell") or status.get("phase") or status["status"]
            bars.update(bar, completed=done, description=str(doing))
            if status["status"] != "Running":
                return status
            await asyncio.sleep(POLL_SECONDS)


def _show_cells(status: dict[str, Any]) -> None:
    table = Table("cell", "status", "time", "output", title=f"Execution: {status['status']}")
    for cell in status["cellResults"]:
        colour = COLOURS.get(cell["status"], "white")
        table.add_row(
            cell["cellId"],
            f"[{colour}]{cell['status']}[/{colour}]",
            cell.get("executionTime", ""),
            cell.get("outputType", "") if cell["hasOutput"] else "",
        )
    console.print(table)
    used = status.get("resources") or {}
    console.print(
        f"Took {status['totalDuration']}, peak memory {used.get('peakMemoryUsage', 'unknown')}, "
        f"CPU {used.get('cpuTime', 'unknown')}"
    )


def _show_outputs(results: dict[str, Any]) -> None:
    for output in results["outputs"]:
        content = output.get("content")
        title = f"{output['cellId']}: {output.get('title') or output['outputType']}"
        if isinstance(content, dict | list):
            text = Syntax(_pretty(content), "json", background_color="default")
            console.print(Panel(text, title=title, title_align="left"))
        elif output["contentType"] == "text/plain" and content:
            console.print(Panel(str(content).rstrip(), title=title, title_align="left"))
        else:
            size = output.get("dimensions")
            shape = f" {size['width']} x {size['height']}" if size else ""
            console.print(f"  {title}: {output['contentType']}{shape}")


def _show_files(results: dict[str, Any]) -> None:
    """What can be downloaded, each with its link, which is whole however narrow the terminal is."""
    of_kind = {
        "Dataset": [
            (each, f"{each['recordCount']:,} records, new: {', '.join(each['newColumns'])}")
            for each in results["enrichedDatasets"]
        ],
        "Model": [
            (each, f"{each['modelType']}, accuracy {each['accuracy']:.2f}")
            for each in results["models"]
        ],
        "Report": [(each, each["format"]) for each in results["reports"]],
    }
    console.print()
    for kind, files in of_kind.items():
        for each, told in files:
            console.print(f"{kind} {each['name']} ({told})", markup=False, soft_wrap=True)
            console.print(f"  {each['downloadUrl']}", markup=False, soft_wrap=True)


def _pretty(content: object) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False)


def _show_links(base: str, path: str, notebook: dict[str, Any]) -> None:
    show_table(
        {
            "Notebook": f"{base}/notebook/{notebook['notebookId']}",
            "Status": f"{base}{path}",
            "Results": f"{base}{path}/results",
            "History": f"{base}{path}/history",
        }
    )


async def _get(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    return _answer(await client.get(path))


async def _post(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
    return _answer(await client.post(path, json=body))


def _answer(response: httpx.Response) -> dict[str, Any]:
    if response.is_error:
        raise DemoFailedError(f"{response.request.method} {response.url}: {response.text}")
    answer: dict[str, Any] = response.json()
    return answer
