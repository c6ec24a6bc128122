"""A notebook that means harm, and the table in docs/deployment.md of what stops it.

Each attempt is a function of the notebook's first cell that returns whether it got what it
wanted; it undoes what it did. The second cell is what must still work.
"""

from __future__ import annotations

import re
from typing import Final

from support.paths import ROOT

ATTEMPTS: Final = {
    "environment": "writes a `.pth` file into the service's Python environment",
    "checkout": "writes into the service's code",
    "system": "writes into `/usr/local/bin` or `/etc`",
    "marks": "changes dates or permissions of the service's files",
    "shadow": "reads `/etc/shadow`",
    "home": "reads the service's home: `server.json`, the configuration file",
    "artifacts": "reads or writes the artifacts",
    "runs": "reads or writes the folder of another run",
    "temporary": "reads what others leave in `/tmp`",
    "memory": "reads the environment of the worker's process, and with it the password",
    "signals": "sends signals to the worker, or to what it has started",
    "privileges": "becomes root, or mounts its way to what is covered, in a user namespace too",
    "postgres": "connects to PostgreSQL",
    "broker": "reads events from the broker, or publishes a forged one",
    "health": "connects to the port of the health checks",
    "detours": "the same by TCP Fast Open or Multipath TCP",
    "sockets": "connects to sockets of the system's services in `/run`",
}
COLUMNS: Final = {
    "process-root": ("process", "root"),
    "process-user": ("process", "not root"),
    "landlock-root": ("landlock", "root"),
    "landlock-user": ("landlock", "not root"),
    "namespaces-root": ("namespaces", "root"),
    "namespaces-user": ("namespaces", "not root"),
}
STOPPED: Final = "stopped"
NOT_STOPPED: Final = "**can**"

_DOCUMENT: Final = ROOT / "docs" / "deployment.md"
_TABLE: Final = re.compile(r"(<!-- hostile notebook -->\n).*?(\n<!-- end -->)", re.DOTALL)

CELL: Final = r'''
import asyncio, ctypes, glob, io, json, os, signal, socket, subprocess, sys
given = json.load(open(os.environ["NBLEDGER_RUN_FILE"]))["parameters"]
name = given["name"]
libc = ctypes.CDLL(None, use_errno=True)

def writes(folder):
    path = os.path.join(folder, name)
    try:
        with open(path, "x") as file:
            file.write("# by a notebook\n")
        os.unlink(path)
        return True
    except OSError:
        return False

def reads(path):
    try:
        if os.path.isdir(path):
            return any(reads(os.path.join(path, each)) for each in os.listdir(path))
        with open(path, "rb") as file:
            return len(file.read(100)) > 0
    except OSError:
        return False

def connects(port, kind=socket.AF_INET, protocol=0):
    try:
        with socket.socket(kind, socket.SOCK_STREAM, protocol) as client:
            client.settimeout(5)
            client.connect(("127.0.0.1" if kind == socket.AF_INET else "::ffff:127.0.0.1", port))
            return True
    except OSError:
        return False

def environment(): return any(map(writes, given["environment"]))
def checkout(): return any(map(writes, given["checkout"]))
def system(): return any(map(writes, ["/usr/local/bin", "/etc"]))
def marks():
    try:
        os.chmod(given["checkout"][0], os.stat(given["checkout"][0]).st_mode & 0o7777)
        return True
    except OSError:
        return False

def shadow(): return reads("/etc/shadow")
def home(): return any(map(reads, given["home"]))
def artifacts(): return reads(given["artifacts"]) or writes(given["artifacts"])
def runs():
    others = [path for path in [given["run"], *glob.glob(os.path.dirname(os.getcwd()) + "/*")]
              if path != os.getcwd()]
    return any(reads(path) or writes(path) for path in others)
def temporary(): return reads(given["temporary"])

def memory():
    for path in glob.glob("/proc/[0-9]*/environ"):
        try:
            if path.split("/")[2] != str(os.getpid()) and given["secret"] in open(path).read():
                return True
        except (OSError, ValueError):
            pass
    return False

def signals():
    for pid in given["pids"]:
        try:
            # A kernel in namespaces has other numbers: then it is another process.
            if given["namespace"] == os.readlink("/proc/self/ns/pid"):
                os.kill(pid, 0)
                return True
        except OSError:
            pass
    return False

ESCAPE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
covered, code, name = sys.argv[1:]
user, group = os.getuid(), os.getgid()
if libc.unshare(0x10000000 | 0x20000) == 0:
    open("/proc/self/setgroups", "w").write("deny")
    open("/proc/self/uid_map", "w").write(f"0 {user} 1")
    open("/proc/self/gid_map", "w").write(f"0 {group} 1")
folder = covered
while folder != "/":
    libc.umount2(folder.encode(), 2)
    libc.mount(b"", folder.encode(), b"", 0x1000 | 32, b"")
    folder = os.path.dirname(folder)
libc.mount(b"", code.encode(), b"", 0x1000 | 32, b"")
libc.mount(b"", b"/", b"", 0x1000 | 32, b"")
try:
    open(covered).read()
    sys.exit(0)
except OSError:
    pass
open(os.path.join(code, name), "x").close()
os.unlink(os.path.join(code, name))
"""

def privileges():
    if os.getuid() == 0:
        return True
    for become in (os.setuid, os.seteuid, os.setgid):
        try:
            become(0)
            return True
        except OSError:
            pass
    if any(reads(path) or writes(os.path.dirname(path)) for path in given["home"]):
        # No privileges are needed for that here.
        return False
    words = [given["home"][0], given["checkout"][0], name]
    tried = subprocess.run([sys.executable, "-c", ESCAPE, *words], capture_output=True)
    return tried.returncode == 0

def postgres(): return connects(given["postgres"]) or connects(given["postgres"], socket.AF_INET6)

async def broker():
    from aiokafka import AIOKafkaProducer
    if not connects(given["broker"]):
        return False
    async with AIOKafkaProducer(bootstrap_servers=f"127.0.0.1:{given['broker']}") as producer:
        await producer.send_and_wait(given["topic"], name.encode())
    return True

def health(): return connects(given["health"])

def fast_open(port):
    try:
        with socket.socket() as client:
            client.settimeout(5)
            client.sendto(b"GET / HTTP/1.0\r\n\r\n", 0x20000000, ("127.0.0.1", port))
            return True
    except OSError:
        return False

def detours(): return fast_open(given["health"]) or connects(given["health"], protocol=262)

def sockets():
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(given["socket"])
            return True
    except OSError:
        return False

got = {}
for attempt in (ATTEMPTS):
    try:
        found = attempt()
        got[attempt.__name__] = await found if asyncio.iscoroutine(found) else found
    except Exception as error:
        got[attempt.__name__] = repr(error)
print(json.dumps(got))
'''.replace("(ATTEMPTS)", f"({', '.join(ATTEMPTS)})")

WORKS: Final = r"""
import base64, importlib, multiprocessing, shutil, tempfile, threading
wheel = given["wheel"]
open(wheel["name"], "wb").write(base64.b64decode(wheel["content"]))
get_ipython().run_line_magic("pip", "install --quiet --no-index ./" + wheel["name"])
importlib.invalidate_caches()
works = {"pip": importlib.import_module(wheel["module"]).VERSION}
words = "which pip python; python -c 'import numpy, sys; print(sys.executable)'"
shell = subprocess.run(words, shell=True, capture_output=True, text=True)
works["programs"] = [os.path.dirname(path) == os.path.dirname(sys.executable)
                     for path in shell.stdout.split("\n")[:2]]
works["in_folder"] = [sys.executable.startswith(os.getcwd()),
                      shell.stdout.split("\n")[2] == sys.executable]
works["again"] = subprocess.run([sys.executable, "-c", "import " + wheel["module"]]).returncode
import html.parser, wave, xml.dom.minidom   # imported late
with socket.create_server(("127.0.0.1", 0)) as server:
    works["loopback"] = connects(server.getsockname()[1])
with tempfile.NamedTemporaryFile() as file:
    works["temporary"] = file.write(b"x")
with multiprocessing.get_context("fork").Pool(1) as pool:
    works["processes"] = pool.apply(max, (1, 2))
works["user"] = os.getuid()
os.makedirs("outputs", exist_ok=True)
open("outputs/kept.txt", "w").write("kept")
print(json.dumps(works))
"""


def table() -> dict[str, dict[str, str]]:
    """What the document says: by column and attempt."""
    found = _TABLE.search(_DOCUMENT.read_text("utf-8"))
    assert found is not None
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in found[0].splitlines()
        if line.startswith("|")
    ]
    told = {row[0]: row[1:] for row in rows[2:]}
    return {
        column: {
            attempt: told[words][number] for attempt, words in ATTEMPTS.items() if words in told
        }
        for number, column in enumerate(COLUMNS)
    }


def write(column: str, seen: dict[str, bool]) -> None:
    """Write what was seen into one column of the document's table."""
    told = table()
    told[column] = {attempt: NOT_STOPPED if got else STOPPED for attempt, got in seen.items()}
    heads = [f"`{level}`, worker {who}" for level, who in COLUMNS.values()]
    lines = ["| a notebook … | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
    for attempt, words in ATTEMPTS.items():
        cells = [told[column].get(attempt, "?") for column in COLUMNS]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    text = _DOCUMENT.read_text("utf-8")
    content = "\n".join(lines)
    _DOCUMENT.write_text(_TABLE.sub(lambda found: found[1] + content + found[2], text), "utf-8")
