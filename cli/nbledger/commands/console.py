"""``nbledger up`` as a person sees it."""

import asyncio

from rich.console import Console

from nbledger.commands.up import home_path, running
from nbledger.embedded.home import ServerInfo
from nbledger_domain.vocabulary.addresses import project_path
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


def show_table(rows: dict[str, str]) -> None:
    """Print names and values, the values whole however narrow the terminal is."""
    width = max(map(len, rows)) + 2
    console.print()
    for name, value in rows.items():
        console.print(f"{name:{width}}{value}", soft_wrap=True)
    console.print()


def show_addresses(server: ServerInfo) -> None:
    """Print where everything is; the token is in ``server.json`` rather than on the screen."""
    show_table(
        {
            "REST API": server.url + project_path(server.tenant_id, server.project_id),
            "OpenAPI": f"{server.url}/schema",
            "Kafka": server.kafka,
            "Token and ids": str(home_path() / "server.json"),
            "Logs": str(home_path() / "logs"),
        }
    )
