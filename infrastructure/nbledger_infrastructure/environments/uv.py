"""uv, the program that resolves and installs packages, run as a process of its own.

Where packages come from is uv's own matter: its configuration files and ``UV_…`` variables.
"""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

_PASSED: Final = frozenset(
    {
        "PATH",
        "HOME",
        "LANG",
        "TMPDIR",
        "NETRC",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "NBLEDGER_INSTANCE",
    }
)
_PASSED_BEGINNINGS: Final = ("UV_", "XDG_", "LC_")
_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_SECRETS: Final = re.compile(r"(?<=://)[^/@\s]+@")
_REASON_CHARACTERS: Final = 2000


class UvError(Exception):
    """uv could not do it; says why in uv's words."""


class _Change(msgspec.Struct, frozen=True):
    name: str
    version: str
    action: str


class _Plan(msgspec.Struct, frozen=True):
    changes: list[_Change] = []


def program() -> str:
    """The path of uv. Raises :class:`UvError` where it is not installed."""
    import uv  # noqa: PLC0415 - the API has none

    try:
        return os.fsdecode(uv.find_uv_bin())
    except FileNotFoundError as error:
        raise UvError("uv is not installed") from error


async def resolve(python: str, requirements: Sequence[str], *, cwd: Path) -> list[str]:
    """What must be installed beside what ``python`` has, as ``name==version``, in order.

    Raises :class:`UvError`.
    """
    output = await _run(
        [
            *("pip", "install", "--dry-run", "--output-format=json", "--no-build"),
            *("--break-system-packages", "--python", python, "--"),
            *requirements,
        ],
        cwd=cwd,
    )
    try:
        plan = msgspec.json.decode(output, type=_Plan)
    except msgspec.MsgspecError as error:
        raise UvError(f"its plan cannot be read: {error}") from error
    return sorted(f"{each.name}=={each.version}" for each in plan.changes if each.action in _NEW)


_NEW: Final = ("installed", "reinstalled")


async def make_environment(folder: Path, *, base: str, keep: Sequence[int] = ()) -> None:
    """An empty virtual environment of the interpreter ``base``. Raises :class:`UvError`."""
    await _run(
        ["venv", "--no-project", "--no-python-downloads", "--python", base, str(folder)],
        cwd=folder.parent,
        keep=keep,
    )


async def install(
    python: Path, packages: Sequence[str], *, cwd: Path, keep: Sequence[int] = ()
) -> None:
    """Install exactly these, from wheels only. Raises :class:`UvError`."""
    await _run(
        [
            *("pip", "install", "--no-deps", "--no-build", "--compile-bytecode"),
            *("--python", str(python), "--"),
            *packages,
        ],
        cwd=cwd,
        keep=keep,
    )


async def _run(arguments: Sequence[str], *, cwd: Path, keep: Sequence[int] = ()) -> bytes:
    """Run uv to its end; what it printed. Nothing of it is left when this is cancelled."""
    process = await asyncio.create_subprocess_exec(
        program(),
        "--color=never",
        "--no-progress",
        *arguments,
        cwd=cwd,
        env=environment(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # A lock that it works under lasts until it ends, even where its caller is killed.
        pass_fds=keep,
    )
    try:
        output, errors = await process.communicate()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    if process.returncode != 0:
        raise UvError(_reason(errors.decode("utf-8", "replace")))
    return output


def environment(source: Mapping[str, str]) -> dict[str, str]:
    """What uv is given of an environment: nothing that is a secret of somebody else."""
    return {
        name: value
        for name, value in source.items()
        if name in _PASSED or name.lower() in _PROXIES or name.startswith(_PASSED_BEGINNINGS)
    }


def _reason(errors: str) -> str:
    """The error in uv's words, without what it says beside it, on one line."""
    lines = [line.strip() for line in errors.splitlines()]
    told = [line for line in lines if line and not line.startswith(("Using Python", "warning:"))]
    text = " ".join(told).removeprefix("error: ").replace(" cause:", ":")
    return _SECRETS.sub("", text)[:_REASON_CHARACTERS] or "uv failed and said nothing"
