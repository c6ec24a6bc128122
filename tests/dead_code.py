"""Code that nothing uses: ``make check`` fails on what this program prints.

A program, not a test. What only libraries, other programs or tests use is exempt below, each
group with its reason; so are the fields of what goes out as JSON, whose readers are elsewhere.
"""

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from vulture import Vulture

PROJECT = tomllib.loads(Path("pyproject.toml").read_text())
ROOTS: list[str] = PROJECT["tool"]["hatch"]["build"]["dev-mode-dirs"]

EXEMPT = {
    "called by Python itself": {"__getattr__", "__init_subclass__"},
    "called by the event sourcing library": {"_apply_*", "_as_dict", "originator_*"},
    "for the next version of an event": {"add_upcaster"},
    "commands of the command line": {
        *("create_token", "list_tokens", "revoke_token", "demo", "make_key"),
        *("list_principals", "erase_principal", "show_status"),
    },
    "imported for what it imports": {"catalogue"},
    "called by asyncio": {"datagram_received", "addr"},
    "read by click": {"exit_code"},
    "called by polars": {"predicate", "n_rows"},
    "read by aiokafka, or set in it": {
        *("API_KEY", "API_VERSION", "SCHEMA", "RESPONSE_TYPE", "FLEXIBLE_VERSION", "build"),
        "_relative_offset",
    },
    "called by jupyter_client, nbclient and ipykernel, or set in them": {
        *("_async_poll_*", "allow_stdin", "cell_index", "cell_meta", "store_history"),
        *("user_expressions", "has_process", "pgid", "preload", "send_multipart", "linger"),
        *("_pipe_uuid", "_progressively_terminate_all_children", "banner", "implementation*"),
        "language_info",
    },
    "called in kernels, to which its text is sent": {"replace_system"},
    "set for multiprocessing and tempfile in a kernel": {"authkey", "tempdir"},
    "called by the HTML parser": {"handle_*"},
    "called by pickle": {"reducer_override"},
    "called by notebooks": {
        *("load_sample_log", "save_enriched_dataset", "save_model", "save_report", "log_metric"),
    },
    "named in quoted types": {"ConsumerRecord", "Engine", "Frame", "PoolConnectionProxy"},
    "chosen by value": {"READER", "STREAM"},
    "what an aggregate or the store knows, which tests and benchmarks ask": {
        *("head_position", "intact", "read_subject", "termination_code"),
    },
    "columns that statements of lists name": {"created_position", "requested_position", "told_id"},
    "what verifiers and witnesses of logs do, as tests do": {
        *("cosign", "with_signatures", "signed_by", "read_proof"),
    },
    "the unused rest of a tuple": {"bucket", "inode", "of_cell"},
}


FOR_USERS = tuple(
    f"{Path.cwd()}/client/nbledger_client/{each}"
    for each in ("clients.py", "errors.py", "models/", "verbs/")
)
"""What programs of users call; a test compares it with what the API offers."""


def encoded_fields() -> Iterator[str]:
    """Fields of structs that have a form in JSON, and of those that inherit from them."""
    classes = [
        node
        for root in ROOTS
        for path in Path(root).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    ]
    known: set[str] = set()
    while True:
        more = {
            node.name
            for node in classes
            if any(keyword.arg == "rename" for keyword in node.keywords)
            or any(ast.unparse(base).split(".")[-1] in known for base in node.bases)
        }
        if more <= known:
            break
        known |= more
    for node in classes:
        if node.name in known:
            for member in node.body:
                if isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name):
                    yield member.target.id


def main() -> int:
    """Print what is not used; the exit status says whether there is any."""
    fields = set(encoded_fields())
    vulture = Vulture(ignore_names=[name for names in EXEMPT.values() for name in names])
    vulture.scavenge(ROOTS)
    found = [
        item
        for item in vulture.get_unused_code(min_confidence=60)
        if not (item.typ in ("variable", "attribute") and item.name in fields)
        and not str(item.filename).startswith(FOR_USERS)
    ]
    for item in found:
        print(item.get_report())
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
