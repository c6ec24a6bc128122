"""Commands of those who run a witness: of few packages, and without database and broker."""

import asyncio
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import click
import structlog

from nbledger.notify import notify_ready
from nbledger.role import load_settings, run, stop_on_signals
from nbledger_infrastructure import logging

log = structlog.get_logger(__name__)

LOGS = """\
# The logs whose checkpoints are cosigned: the line "log" of a log's policy has its key.
# Changes are read at once; a log whose lines are removed is cosigned no more.
logs/v0

"""

FOLDER = click.argument("folder", type=click.Path(file_okay=False, path_type=Path))


@click.group()
def witness() -> None:
    """Cosign checkpoints of logs that others run, so that nobody is shown another history.

    A witness is a folder: `key.pem`, `name`, `logs` with the keys of the logs that it knows, and
    `state` with what it cosigned last. It speaks C2SP tlog-witness.
    """


@witness.command("init")
@FOLDER
@click.option(
    "--name",
    required=True,
    metavar="NAME",
    help="The witness's name, which stays for ever: like an address, without scheme, of a domain "
    "of yours, such as audit.example.com/w1.",
)
def init(folder: Path, name: str) -> None:
    """Make a witness in FOLDER, with a key of its own, and print its public key.

    Nothing that is there is ever overwritten.
    """
    from nbledger_audit.keys import Signer
    from nbledger_domain.transparency.notes import COSIGNATURE, NoteError, own_name

    try:
        own_name(name)
    except NoteError as error:
        raise click.ClickException(str(error)) from None
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        signer = Signer.generate(folder / "key.pem")
        (folder / "state").mkdir(mode=0o700)
        for file, told in (("name", f"{name}\n"), ("logs", LOGS)):
            with (folder / file).open("x", encoding="utf-8") as made:
                made.write(told)
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None
    click.echo(signer.key(name, COSIGNATURE).encoded)


@witness.command("key")
@FOLDER
def key(folder: Path) -> None:
    """Print the public key of the witness in FOLDER, for the policies of those who trust it."""
    from nbledger_domain.transparency.notes import COSIGNATURE

    name, signer = _signer(folder)
    click.echo(signer.key(name, COSIGNATURE).encoded)


@witness.command("run")
@FOLDER
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=7380,
    show_default=True,
    help="The port to listen at; 0 is any free one.",
)
def serve(folder: Path, host: str, port: int) -> None:
    """Run the witness in FOLDER until Ctrl-C.

    TLS is for what stands before it. No two processes work on one folder.
    """
    settings = load_settings()
    cosigner, memory = _cosigner(folder)
    logging.configure(settings.log, role="witness")
    try:
        run(_serve(cosigner, host, port))
    except OSError as error:
        raise click.ClickException(f"{host}:{port}: {error.strerror}") from None
    finally:
        memory.close()


@witness.command("check")
@click.argument("policy", type=click.File("rb"))
@click.argument("checkpoint", type=click.File("r", encoding="utf-8"), default="-")
def check(policy: BinaryIO, checkpoint: TextIO) -> None:
    """Check a CHECKPOINT (default: from standard input) by the POLICY of its log.

    Exits with status 1 where the log has not signed it, too few witnesses have cosigned it, or they
    did so longer ago than the policy allows.
    """
    from nbledger_audit.keys import verify
    from nbledger_domain.transparency.notes import NoteError, read_note
    from nbledger_domain.transparency.policies import (
        PolicyError,
        UntrustedCheckpointError,
        read_policy,
    )

    try:
        known = read_policy(policy.read().decode("utf-8", "surrogateescape"))
        verdict = known.judge(read_note(checkpoint.read()), verify)
    except PolicyError as error:
        raise click.ClickException(f"{policy.name}: {error}") from None
    except (NoteError, UnicodeDecodeError, UntrustedCheckpointError) as error:
        raise click.ClickException(f"{checkpoint.name}: {error}") from None
    click.echo(f"{verdict.checkpoint.origin}: {verdict.checkpoint.size} entries, signed")
    for name, at in verdict.times.items():
        shown = name.encode("utf-8", "replace").decode()
        click.echo(f"cosigned by {shown} at {datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}")
    if verdict.witnessed_at is None:
        click.echo("no witness has cosigned it, and none has to: its age is not known")
        return
    age = max(0, int(time.time()) - verdict.witnessed_at)
    click.echo(f"witnessed {age} s ago, of {known.maximum_age or 'any number of'} s allowed")
    if known.maximum_age is not None and age > known.maximum_age:
        raise click.ClickException(f"{checkpoint.name}: the checkpoint is too old")


async def _serve(cosigner: Any, host: str, port: int) -> None:
    from nbledger_audit.witness.server import serve as serve_witness

    stop = asyncio.Event()
    stop_on_signals(stop)

    def on_ready(bound: int) -> None:
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{bound}"
        log.info("ready", url=url, key=cosigner.key.encoded, logs=len(cosigner.logs.all()))
        notify_ready(url=url)

    await serve_witness(cosigner, host, port, stop, on_ready)
    log.info("stopped")


def _signer(folder: Path) -> Any:
    from nbledger_audit.keys import KeyFileError, Signer
    from nbledger_domain.transparency.notes import COSIGNATURE, NoteError

    try:
        name = (folder / "name").read_text("utf-8").strip()
        signer = Signer.read(folder / "key.pem")
        signer.key(name, COSIGNATURE)
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None
    except (KeyFileError, NoteError, UnicodeDecodeError) as error:
        raise click.ClickException(str(error)) from None
    return name, signer


def _cosigner(folder: Path) -> Any:
    from nbledger_audit.witness.cosigner import Cosigner, KnownLogs
    from nbledger_audit.witness.memory import WitnessMemory
    from nbledger_domain.transparency.log_lists import LogListError
    from nbledger_infrastructure.locks import LockHeldError

    name, signer = _signer(folder)
    try:
        logs = KnownLogs(folder / "logs")
        memory = WitnessMemory(folder / "state")
    except (LogListError, UnicodeDecodeError) as error:
        raise click.ClickException(f"{folder / 'logs'}: {error}") from None
    except LockHeldError as error:
        click.echo(f"Error: another witness works here: {error}", err=True)
        sys.exit(3)
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None
    return Cosigner(name, signer, logs, memory), memory
