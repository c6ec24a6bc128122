"""What a kernel's process sees and may do at each level."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import psutil
import pytest
from support import isolated

from nbledger_workers.kernel.standalone.isolation import Isolation, can_close_ports, keeps_signals
from nbledger_workers.kernel.standalone.isolation_probe import available

_NOBODY = 65534
_SYSTEM_PYTHON = "/usr/bin/python3"

needs_namespaces = pytest.mark.skipif(
    available(Isolation(level="namespaces", network="none", read_only=True)) is not None,
    reason="this machine offers no namespaces",
)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can take another user")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A run's folder below /tmp, as by default, with its temporary folder in it."""
    path = Path(mkdtemp(prefix="nbi-test-", dir="/tmp"))
    (path / ".tmp").mkdir()
    yield path
    shutil.rmtree(path)


def _namespaces(folder: Path, **more: Any) -> Isolation:
    return Isolation(
        level="namespaces", folders=(str(folder),), temporary=str(folder / ".tmp"), **more
    )


def _told(isolation: Isolation, expression: str, **options: Any) -> Any:
    """The value of an expression in the isolated process."""
    code = f"import json, os\nprint(json.dumps({expression}))"
    result = isolated.run(isolation, code, **options)
    assert result["status"] == 0, result["out"]
    return json.loads(result["out"])


_READ_ENVIRONMENT = """
found = []
for path in glob.glob("/proc/[0-9]*/environ"):
    try:
        with open(path, "rb") as file:
            if b"open sesame" in file.read() and path.split("/")[2] != str(os.getpid()):
                found.append(path)
    except OSError:
        pass
"""


@pytest.mark.parametrize("level", ["process", pytest.param("namespaces", marks=needs_namespaces)])
@needs_root
def test_a_kernel_cannot_read_the_environment_of_its_fork_server(level: str, folder: Path) -> None:
    isolation = Isolation() if level == "process" else _namespaces(folder)
    code = f"import glob, os\n{_READ_ENVIRONMENT}\nprint(found)"
    assert isolated.run(isolation, code)["out"].strip() == "[]"
    # A process that may read it finds it.
    nested = f"import subprocess as s, sys; s.run([sys.executable, '-c', {code!r}], env={{}})"
    free = subprocess.run(
        [sys.executable, "-c", nested],
        env={"NBLEDGER_SECRET": "open sesame"},
        capture_output=True,
        check=True,
        timeout=30,
    )
    assert b"/environ" in free.stdout


@needs_namespaces
@needs_root
@pytest.mark.skipif(not Path(_SYSTEM_PYTHON).exists(), reason="no Python for every user")
def test_without_root_a_kernel_cannot_read_its_fork_server_either() -> None:
    code = f"import glob, os\n{_READ_ENVIRONMENT}\nprint(found, os.getuid())"
    with_level = isolated.run(
        Isolation(level="namespaces"), code, user=_NOBODY, interpreter=_SYSTEM_PYTHON
    )
    assert with_level["out"].strip() == f"[] {_NOBODY}"
    # At the lower level it can, so that the search is known to find.
    without = isolated.run(Isolation(), code, user=_NOBODY, interpreter=_SYSTEM_PYTHON)
    assert "/environ" in without["out"]


@needs_namespaces
def test_it_sees_no_process_but_those_of_its_run(folder: Path) -> None:
    seen = _told(_namespaces(folder), "sorted(map(int, filter(str.isdigit, os.listdir('/proc'))))")
    assert seen == [1, 2]


@needs_namespaces
def test_temporary_folders_are_its_own(folder: Path) -> None:
    expression = """[
        open("/tmp/made", "w").close(),
        open("/var/tmp/made too", "w").close(),
        open("/dev/shm/segment", "w").close(),
        os.listdir("/dev/shm"),
        sorted(name for name in os.listdir("/tmp") if name.startswith("made")),
        os.path.exists("%s"),
    ]"""
    other = Path(mkdtemp(prefix="nbi-other-", dir="/tmp"))
    try:
        told = _told(_namespaces(folder), expression % other)
    finally:
        other.rmdir()
    assert told[3:] == [["segment"], ["made", "made too"], False]
    assert {"made", "made too"} <= {path.name for path in (folder / ".tmp").iterdir()}
    assert not Path("/tmp/made").exists()
    assert not Path("/dev/shm/segment").exists()


@needs_namespaces
def test_its_own_folder_stays_where_it_was(folder: Path) -> None:
    (folder / "input.txt").write_text("given")
    told = _told(
        _namespaces(folder),
        f"[open('{folder}/input.txt').read(), open('{folder}/result.txt', 'w').write('made')]",
    )
    assert told == ["given", 4]
    assert (folder / "result.txt").read_text() == "made"


@needs_namespaces
def test_visible_folders_stay_and_hidden_ones_do_not(folder: Path, tmp_path: Path) -> None:
    hidden = Path(mkdtemp(prefix="nbi-hidden-", dir=os.environ.get("XDG_RUNTIME_DIR", "/run")))
    try:
        (hidden / "secret").write_text("x")
        (hidden / "inside").mkdir()
        (hidden / "inside" / "wanted").write_text("y")
        (hidden / "deeper" / "still").mkdir(parents=True)
        (tmp_path / "library.py").write_text("z")
        isolation = _namespaces(
            folder,
            hidden=(str(hidden / "deeper"), str(hidden)),
            visible=(str(tmp_path), str(hidden / "inside")),
        )
        told = _told(
            isolation,
            f"[os.path.exists('{hidden}/secret'), os.listdir('{hidden}/inside'),"
            f" os.listdir('{tmp_path}')]",
        )
    finally:
        shutil.rmtree(hidden)
    assert told == [False, ["wanted"], ["library.py"]]


@needs_namespaces
@pytest.mark.parametrize("place", ["/run", "/tmp"])
def test_of_places_in_places_the_innermost_counts(place: str) -> None:
    # As when all is in the checkout, from which modules are imported, too.
    checkout = Path(mkdtemp(prefix="nbi-checkout-", dir=place))
    home = checkout / "home"
    folder = home / "work" / "run"
    try:
        (folder / ".tmp").mkdir(parents=True)
        (folder / "input.txt").write_text("given")
        (home / "database").write_text("secret")
        (home / "library" / "hidden").mkdir(parents=True)
        (home / "library" / "library.py").write_text("y")
        (home / "library" / "hidden" / "secret").write_text("secret")
        (checkout / "module.py").write_text("x")
        isolation = _namespaces(
            folder,
            hidden=(str(home), str(folder.parent), str(home / "library" / "hidden")),
            visible=(str(checkout), str(home / "library")),
        )
        listed = ("", "home", "home/library", "home/library/hidden", "home/work/run")
        paths = [str(checkout / each) for each in listed]
        told = _told(isolation, f"[sorted(os.listdir(path)) for path in {paths}]")
    finally:
        shutil.rmtree(checkout)
    assert told == [
        ["home", "module.py"],
        ["library", "work"],
        ["hidden", "library.py"],
        [],
        [".tmp", "input.txt"],
    ]


@needs_namespaces
def test_read_only_leaves_its_own_folders_writable(folder: Path) -> None:
    attempt = """
def attempt(path):
    try:
        open(path, "w").close()
        os.unlink(path)
        return "written"
    except OSError as error:
        return error.strerror
"""
    code = f"""
import json, os
{attempt}
print(json.dumps([attempt(p + "/nbi-probe") for p in
    ("/var", "/usr", "/run", "{folder}", "/tmp", "/dev/shm")]))
open("/dev/null", "w").write("x")
"""
    result = isolated.run(_namespaces(folder, read_only=True), code)
    refused = "Read-only file system"
    assert json.loads(result["out"]) == [refused, refused, refused, "written", "written", "written"]
    result = isolated.run(_namespaces(folder), code.replace('"/usr", "/run", ', ""))
    assert json.loads(result["out"])[1:] == ["written"] * 3


@needs_namespaces
def test_network_none_leaves_only_a_loopback_that_works(folder: Path) -> None:
    code = """
import json, socket
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname(), timeout=5)
server.accept()[0].sendall(b"hello")
try:
    socket.create_connection(("127.0.0.1", %d), timeout=5)
    reached = True
except OSError:
    reached = False
print(json.dumps([client.recv(5).decode(), [name for _, name in socket.if_nameindex()], reached]))
"""
    with socket.create_server(("127.0.0.1", 0)) as outside:
        port = outside.getsockname()[1]
        alone = isolated.run(_namespaces(folder, network="none"), code % port)
        said, interfaces, reached = json.loads(alone["out"])
        assert (said, reached) == ("hello", False)
        assert "lo" in interfaces
        assert not set(interfaces) & {"eth0", "docker0"}
        shared = isolated.run(_namespaces(folder), code % port)
        assert json.loads(shared["out"])[2] is True


needs_landlock = pytest.mark.skipif(
    not (can_close_ports() and keeps_signals()), reason="this machine offers no Landlock"
)


@needs_landlock
def test_landlock_leaves_its_own_folders_and_hides(folder: Path, tmp_path: Path) -> None:
    hidden, shared = folder.with_name(f"{folder.name}-hidden"), tmp_path / "shared"
    for path in (hidden / "inside", shared):
        path.mkdir(parents=True)
    for path in (hidden / "secret", hidden / "inside" / "wanted", hidden.with_suffix(".txt")):
        path.write_text("x")
    isolation = Isolation(
        level="landlock",
        folders=(str(folder),),
        writable=(str(shared),),
        hidden=(str(hidden),),
        visible=(str(hidden / "inside"), sys.prefix, sys.base_prefix),
        read_only=True,
    )
    code = f"""
import json, multiprocessing, os, signal
def attempt(do, *given):
    try:
        do(*given)
        return "done"
    except OSError as error:
        return error.strerror
read = lambda path: open(path).read()
write = lambda path: (open(path, "w").close(), os.rename(path, path + "2"), os.unlink(path + "2"))
multiprocessing.Lock()
with open("/dev/null", "w") as null: null.write("x")
print(json.dumps([
    attempt(read, "{hidden}/secret"),
    attempt(read, "{hidden}.txt"),
    attempt(read, "{hidden}/inside/wanted"),
    attempt(read, "/etc/passwd"),
    attempt(write, "/etc/nbi-probe"),
    attempt(write, "{hidden}/inside/new"),
    attempt(write, "{folder}/new"),
    attempt(write, "{shared}/new"),
    attempt(os.kill, {os.getpid()}, 0),
    attempt(read, "/proc/{os.getpid()}/environ"),
]))
"""
    try:
        result = isolated.run(isolation, code)
    finally:
        shutil.rmtree(hidden)
        hidden.with_suffix(".txt").unlink()
    refused, not_permitted = "Permission denied", "Operation not permitted"
    told = json.loads(result["out"])
    assert told == [
        *(refused, refused, "done"),
        *("done", refused, refused),
        *("done", "done", not_permitted),
        refused,
    ]


@needs_landlock
@pytest.mark.parametrize(
    "level", ["process", "landlock", pytest.param("namespaces", marks=needs_namespaces)]
)
def test_closed_ports_cannot_be_connected_to_by_any_detour(level: str, folder: Path) -> None:
    code = """
import ctypes, json, socket
def attempt(do):
    try:
        do()
        return True
    except OSError:
        return False
def fast_open(port):
    with socket.socket() as client: client.sendto(b"x", 0x20000000, ("127.0.0.1", port))
def in_a_message(port):
    with socket.socket() as client: client.sendmsg([b"x"], [], 0x20000000, ("127.0.0.1", port))
def multipath(port):
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262) as client:
        client.connect(("127.0.0.1", port))
def mapped(port):
    with socket.socket(socket.AF_INET6) as client: client.connect(("::ffff:127.0.0.1", port))
def plain(port): socket.create_connection(("127.0.0.1", port), 5).close()
def ring(_):
    if ctypes.CDLL(None).syscall(425, 1, ctypes.create_string_buffer(120)) < 0: raise OSError
ways = (plain, mapped, fast_open, in_a_message, multipath, ring)
print(json.dumps([[attempt(lambda: way(port)) for way in ways] for port in (%d, %d)]))
"""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("", 0)) as other:
        closed, free = one.getsockname()[1], other.getsockname()[1]
        isolation = Isolation(level=level, folders=(str(folder),), temporary=str(folder))
        result = isolated.run(isolation, code % (closed, free), closed_ports=[closed])
    refused, reached = json.loads(result["out"])
    if level == "process":
        assert refused[0]
        assert refused[2]
    else:
        assert not any(refused)
        assert reached == [True, True, False, False, False, False]


_CAPABILITIES = """{line.split(":")[0]: line.split()[1] for line in open("/proc/self/status")
    if line.startswith(("Cap", "NoNewPrivs"))}"""


@pytest.mark.parametrize("level", ["process", pytest.param("namespaces", marks=needs_namespaces)])
def test_it_has_no_rights_and_gets_none(level: str, folder: Path) -> None:
    isolation = Isolation() if level == "process" else _namespaces(folder)
    told = _told(isolation, _CAPABILITIES)
    assert told.pop("NoNewPrivs") == "1"
    # Without root there was no right to take the bounding set away, and no use for it.
    bounding = told.pop("CapBnd")
    assert set(told.values()) == {"0" * 16}
    if os.geteuid() == 0:
        assert bounding == "0" * 16


@needs_root
@pytest.mark.skipif(not Path(_SYSTEM_PYTHON).exists(), reason="no Python for every user")
def test_another_user_can_be_named(folder: Path) -> None:
    (folder / "mine.txt").write_text("x")
    isolation = Isolation(folders=(str(folder),), user=(_NOBODY, _NOBODY))
    told = _told(
        isolation,
        f"[os.getuid(), os.getgid(), os.getgroups(), os.stat('{folder}').st_uid, {_CAPABILITIES}]",
        interpreter=_SYSTEM_PYTHON,
    )
    capabilities = told.pop()
    assert told == [_NOBODY, _NOBODY, [], _NOBODY]
    assert capabilities.pop("NoNewPrivs") == "1"
    # The bounding set included, which only who was root could take away.
    assert set(capabilities.values()) == {"0" * 16}
    assert (folder / "mine.txt").stat().st_uid == _NOBODY


_LEAVE_BEHIND = """
import os, signal, time
for step in range(2):
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if step and os.fork():
            os._exit(0)
        time.sleep(60)
        os._exit(0)
{end}
"""


@needs_namespaces
@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("os._exit(7)", 7),
        ("os.kill(os.getpid(), signal.SIGKILL)", -9),
        ("os.abort()", -6),
        ("os.kill(1, signal.SIGKILL); os._exit(3)", 3),
    ],
)
def test_with_it_ends_all_that_it_started_and_its_status_is_told(
    folder: Path, end: str, status: int
) -> None:
    begun = time.monotonic()
    # Returns only when nobody holds the output any more: what is left would sleep for a minute.
    result = isolated.run(_namespaces(folder), _LEAVE_BEHIND.format(end=end))
    assert result["status"] == status
    assert time.monotonic() - begun < 20
    assert not psutil.pid_exists(result["init"])


@needs_namespaces
def test_it_ends_with_its_fork_server(folder: Path) -> None:
    os.mkfifo(folder / "up")
    end = f"open({str(folder / 'up')!r}, 'w').write('up'); time.sleep(60)"
    fork_server = subprocess.Popen(
        [
            sys.executable,
            "-I",
            "-S",
            isolated.__file__,
            json.dumps(_namespaces(folder).to_json()),
            _LEAVE_BEHIND.format(end=end),
        ]
    )
    try:
        assert (folder / "up").read_text() == "up"
        family = psutil.Process(fork_server.pid).children(recursive=True)
        assert len(family) >= 3
    finally:
        fork_server.kill()
        fork_server.wait()
    _, alive = psutil.wait_procs(family, timeout=15)
    # Whoever has adopted them may be slow to take notice.
    assert [each for each in alive if each.status() != psutil.STATUS_ZOMBIE] == []


@needs_namespaces
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs the program unshare")
def test_what_is_missing_is_named() -> None:
    assert available(Isolation(level="prison")) == "there is no level 'prison'"
    assert available(Isolation()) is None
    # In a user namespace of its own a bound can be set without touching the machine's.
    wanted = json.dumps(Isolation("namespaces").to_json())
    script = f"""
echo 0 > /proc/sys/user/max_pid_namespaces
exec {sys.executable} -I -S {isolated.STANDALONE}/isolation_probe.py '{wanted}'
"""
    told = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert told.returncode == 1
    assert told.stderr.strip() == "PID namespace: No space left on device"
