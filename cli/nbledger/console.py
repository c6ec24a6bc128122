"""``nbledger up`` as a person sees it."""

import asyncio

from rich.console import Console
from rich.table import Table

from nbledger.up import home_path, running
from nbledger_infrastructure.embedded.home import ServerInfo
from nbledger_infrastructure.settings import Settings

console = Console(highlight=False)


def progress(step: str) -> None:
    """Tell what is being done."""
    console.print(f"[dim]•[/dim] {step}")


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Start everything, say where it is, and serve until ``stop``."""
    async with running(settings, progress=progress) as server:
        show_addresses(server)
        console.print("Serving. Ctrl-C ends it.")
        await stop.wait()


def show_addresses(server: ServerInfo) -> None:
    """Print where everything is; the token is in ``server.json`` rather than on the screen."""
    table = Table.grid(padding=(0, 2))
    base = f"{server.url}/api/{server.tenant_id}/{server.project_id}"
    table.add_row("REST API", base)
    table.add_row("OpenAPI", f"{server.url}/schema")
    table.add_row("Kafka", server.kafka)
    table.add_row("Token and ids", str(home_path() / "server.json"))
    table.add_row("Logs", str(home_path() / "logs"))
    console.print()
    console.print(table)
    console.print()
