"""uv, the program that resolves and installs packages, run as a process of its own.

Where packages come from is uv's own matter: its configuration files and ``UV_…`` variables. What
it keeps of them lies where we say, unless a variable says otherwise: what kernels could write
would be in the next environment.
"""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from nbledger_infrastructure.passed_on import passed_on
from nbledger_infrastructure.programs import Finished, Program

_PASSED: Final = ("HOME", "LANG", "TMPDIR", "NETRC", "SSL_CERT_FILE", "SSL_CERT_DIR")
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


def cache_folder(otherwise: Path) -> Path:
    """Where uv keeps what it has got: where its variable says, or else there."""
    configured = os.environ.get("UV_CACHE_DIR")
    return Path(configured).absolute() if configured else otherwise


def program() -> str:
    """The path of uv. Raises :class:`UvError` where it is not installed."""
    import uv  # noqa: PLC0415 - the API has none

    try:
        return os.fsdecode(uv.find_uv_bin())
    except FileNotFoundError as error:
        raise UvError("uv is not installed") from error


async def resolve(python: str, requirements: Sequence[str], *, cache: Path, cwd: Path) -> list[str]:
    """What must be installed beside what ``python`` has, as ``name==version``, in order.

    Raises :class:`UvError`.
    """
    output = await _run_uv(
        [
            *("pip", "install", "--dry-run", "--output-format=json", "--no-build"),
            *("--break-system-packages", "--python", python, "--"),
            *requirements,
        ],
        cache=cache,
        cwd=cwd,
    )
    try:
        plan = msgspec.json.decode(output, type=_Plan)
    except msgspec.MsgspecError as error:
        raise UvError(f"its plan cannot be read: {error}") from error
    return sorted(f"{each.name}=={each.version}" for each in plan.changes if each.action in _NEW)


_NEW: Final = ("installed", "reinstalled")


async def make_environment(
    folder: Path, *, base: str, cache: Path, keep: Sequence[int] = ()
) -> None:
    """An empty virtual environment of the interpreter ``base``. Raises :class:`UvError`."""
    await _run_uv(
        ["venv", "--no-project", "--no-python-downloads", "--python", base, str(folder)],
        cache=cache,
        cwd=folder.parent,
        keep=keep,
    )


async def install(
    python: Path,
    packages: Sequence[str],
    *,
    cache: Path | None,
    cwd: Path,
    keep: Sequence[int] = (),
) -> None:
    """Install exactly these, from wheels only. Raises :class:`UvError`.

    Without a cache nothing of them is left but what is installed.
    Nothing of them is run, and uv's own way to compile them would: with what the site packages
    have it run at the start of an interpreter.
    """
    await _run_uv(
        ["pip", "install", "--no-deps", "--no-build", "--python", str(python), "--", *packages],
        cache=cache,
        cwd=cwd,
        keep=keep,
    )


async def compile_modules(folder: Path, *, keep: Sequence[int] = ()) -> None:
    """Compile the modules in a folder by this interpreter, which runs nothing of them.

    Those that cannot be compiled stay as they are.
    """
    await _run(
        [sys.executable, "-I", "-S", "-m", "compileall", "-qq", "-j", "0", str(folder)],
        variables=passed_on(),
        cwd=folder,
        keep=keep,
    )


async def _run_uv(
    arguments: Sequence[str], *, cache: Path | None, cwd: Path, keep: Sequence[int] = ()
) -> bytes:
    cached = [] if cache is not None else ["--no-cache"]
    finished = await _run(
        [program(), "--color=never", "--no-progress", *cached, *arguments],
        variables={
            **environment(os.environ),
            **({} if cache is None else {"UV_CACHE_DIR": str(cache)}),
        },
        cwd=cwd,
        keep=keep,
    )
    if finished.status != 0:
        raise UvError(_reason(finished.errors.decode("utf-8", "replace")))
    return finished.output


async def _run(
    command: Sequence[str], *, variables: Mapping[str, str], cwd: Path, keep: Sequence[int]
) -> Finished:
    """Run it to its end. Nothing is left when cancelled."""
    # A lock that it works under lasts until it ends, even where its caller is killed.
    async with await Program.start(command, env=variables, cwd=cwd, keep=keep) as started:
        return await started.finish()


def environment(source: Mapping[str, str]) -> dict[str, str]:
    """What uv is given of an environment: nothing that is a secret of somebody else."""
    proxies = [name for name in source if name.lower() in _PROXIES]
    return passed_on((*_PASSED, *proxies), beginnings=_PASSED_BEGINNINGS, environment=source)


def _reason(errors: str) -> str:
    """The error in uv's words, without what it says beside it, on one line."""
    lines = [line.strip() for line in errors.splitlines()]
    told = [line for line in lines if line and not line.startswith(("Using Python", "warning:"))]
    text = " ".join(told).removeprefix("error: ").replace(" cause:", ":")
    return _SECRETS.sub("", text)[:_REASON_CHARACTERS] or "uv failed and said nothing"
