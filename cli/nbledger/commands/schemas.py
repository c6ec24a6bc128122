"""``nbledger schemas``: the schemas of events and states, for others."""

import sys
from typing import get_args

import click

from nbledger import registry
from nbledger.registry import COMPATIBILITIES, Dialect, Naming, Registry, RegistryError, subjects
from nbledger.role import load_settings


@click.group()
def schemas() -> None:
    """The JSON Schemas of events and states."""


@schemas.command()
@click.option("--registry", "url", required=True, metavar="URL", help="Where its API begins.")
@click.option(
    "--base",
    metavar="URL",
    help="What the addresses of schemas begin with; by default http.public_url.",
)
@click.option(
    "--compatibility",
    type=click.Choice(COMPATIBILITIES),
    default="FORWARD_TRANSITIVE",
    show_default=True,
    help="Set for each subject.",
)
@click.option("--keep-compatibility", is_flag=True, help="Leave the registry's settings alone.")
@click.option(
    "--subjects",
    "naming",
    type=click.Choice(get_args(Naming)),
    default="record",
    show_default=True,
    help="Named after the type, or after the topic and the type.",
)
@click.option(
    "--dialect",
    type=click.Choice(get_args(Dialect)),
    default="2020-12",
    show_default=True,
    help="The form of JSON Schema.",
)
@click.option("--dry-run", is_flag=True, help="Ask what would be changed, and change nothing.")
def push(
    *,
    url: str,
    base: str | None,
    compatibility: str,
    keep_compatibility: bool,
    naming: Naming,
    dialect: Dialect,
    dry_run: bool,
) -> None:
    """Register the schemas with a registry that speaks Confluent's API.

    What is there already is left alone, so it can be repeated. NBLEDGER_REGISTRY_USER
    (user:password) or NBLEDGER_REGISTRY_TOKEN authenticates. Exits with status 1 when the registry
    refuses a schema or cannot be reached; schemas before that one stay registered.
    """
    settings = load_settings()
    wanted = subjects(
        (base or settings.http.address).rstrip("/"),
        topic_prefix=settings.kafka.topic_prefix,
        naming=naming,
        dialect=dialect,
    )
    level = None if keep_compatibility else compatibility
    counts = {"registered": 0, "unchanged": 0}
    try:
        client = Registry(url, registry.credentials())
        try:
            for each in client.push(wanted, compatibility=level, dry_run=dry_run):
                counts[each.outcome] += 1
                if each.outcome == "registered" or each.compatibility:
                    told = f", compatibility {each.compatibility}" if each.compatibility else ""
                    click.echo(f"{each.subject}: {each.outcome}{told}")
        finally:
            client.close()
    except RegistryError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    would = "would be " if dry_run else ""
    click.echo(f"{counts['registered']} {would}registered, {counts['unchanged']} unchanged")
