"""What every IPython kernel is sent before its first cell."""

from __future__ import annotations

from pathlib import Path
from typing import Final

# In this order: what a module imports of the others comes before it.
_MODULES: Final = (
    "members",
    "descriptors",
    "streams",
    "texts",
    "tasks",
    "orderly_end",
    "program_end",
    "ipython",
    "programs",
)

# The kernel's Python need not know this package: its modules come as texts, find each other by
# their names, and are known to nobody else. They need the standard library only, and nothing in
# them may fail where IPython or ipykernel are of other versions.
_LOADER: Final = """
def load(texts, package):
    import builtins, types
    modules, others = {}, builtins.__import__
    def find(name, globals=None, locals=None, fromlist=(), level=0):
        return modules.get(name) or others(name, globals, locals, fromlist, level)
    for name, text in texts:
        module = modules[f'{package}.{name}'] = types.ModuleType(f'{package}.{name}')
        module.__builtins__ = {**vars(builtins), '__import__': find}
        exec(compile(text, '<nbledger>', 'exec'), module.__dict__)
    return modules
modules = load(texts, package)
modules[f'{package}.ipython'].install(shell, key)
modules[f'{package}.programs'].replace_system()
"""


def preparation(key: str) -> str:
    """Statements that make a kernel run the modules that are for its inside.

    They show nothing and leave no name behind. ``key`` is what the kernel marks its replies with,
    so that what a cell sends in its name is told apart.
    """
    folder = Path(__file__).parent
    texts = [(name, (folder / f"{name}.py").read_text("utf-8")) for name in _MODULES]
    given = f"'texts': {texts!r}, 'package': {__package__!r}, 'key': {key!r}"
    return f"exec(compile({_LOADER!r}, '<nbledger>', 'exec'), {{{given}, 'shell': get_ipython()}})"
