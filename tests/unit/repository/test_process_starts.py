"""Processes are started in few places, and one of them is for all that just run a program."""

import ast
from collections.abc import Iterator

from support.paths import ROOT, SOURCE_ROOTS

STARTS = {
    "infrastructure/nbledger_infrastructure/programs.py": "programs that do one thing: use this",
    "cli/nbledger/embedded/processes.py": (
        "services and roles of `nbledger up`: tied to the life of the thread that starts them, "
        "with log files and users of their own"
    ),
    "cli/nbledger/embedded/postgres_files.py": (
        "asks as another user, in a thread, before there is anything to end"
    ),
    "workers/nbledger_workers/kernel/driving/pair.py": (
        "the supervising child where nothing can be forked: speaks over a socket, outlives calls"
    ),
    "workers/nbledger_workers/kernel/processes/fork_client.py": "starts the fork server",
    "workers/nbledger_workers/kernel/standalone/fork_server.py": "is the fork server",
    "workers/nbledger_workers/kernel/standalone/guardian.py": "makes the process that it guards",
    "workers/nbledger_workers/kernel/standalone/isolation.py": (
        "makes the first process of a namespace; runs by its path"
    ),
    "workers/nbledger_workers/kernel/standalone/isolation_probe.py": "tries out namespaces",
    "workers/nbledger_workers/kernel/inside/programs.py": "programs that cells run, in the kernel",
    "workers/nbledger_workers/languages/scala_kernel.py": "the interpreter, in the kernel",
}
"""Modules that start processes, each with why it does so itself."""

_SUBPROCESS = {"run", "call", "check_call", "check_output", "getoutput", "getstatusoutput", "Popen"}
_OS = {"fork", "forkpty", "posix_spawn", "posix_spawnp", "system", "popen"}
_ANYWHERE = {"create_subprocess_exec", "create_subprocess_shell", "subprocess_exec"}


def starts(tree: ast.AST) -> Iterator[str]:
    """What in a module starts a process, or could do so unseen."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in ("subprocess", "multiprocessing"):
            yield from (f"{node.module}.{each.name}" for each in node.names if each.name != "PIPE")
        elif isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name == "multiprocessing")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name, owner = node.func.attr, node.func.value
            of = owner.id if isinstance(owner, ast.Name) else ""
            if (
                name in _ANYWHERE
                or (of == "subprocess" and name in _SUBPROCESS)
                or (of == "os" and (name in _OS or name.startswith("spawn")))
            ):
                yield f"{of}.{name}"


def test_what_starts_processes_is_known() -> None:
    found = {
        str(path.relative_to(ROOT))
        for room in SOURCE_ROOTS
        for path in (ROOT / room).rglob("*.py")
        if any(starts(ast.parse(path.read_text())))
    }
    assert found == set(STARTS)


def test_ways_to_start_a_process_are_seen() -> None:
    for text in (
        "asyncio.create_subprocess_exec('a')",
        "loop.subprocess_exec(None)",
        "subprocess.Popen(['a'])",
        "subprocess.run(['a'])",
        "os.fork()",
        "os.spawnv(0, 'a', [])",
        "from subprocess import run",
        "import multiprocessing",
    ):
        assert list(starts(ast.parse(text))), text
    assert not list(starts(ast.parse("from subprocess import PIPE\nos.kill(1, 2)")))
