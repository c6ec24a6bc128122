"""The notebook version that users see: ``major.minor.patch``."""

INITIAL = "1.0.0"


def bump(version: str, *, cells_changed: bool) -> str:
    """The next version: a change to cells raises the minor part, any other the patch part."""
    major, minor, patch = (int(part) for part in version.split("."))
    return f"{major}.{minor + 1}.0" if cells_changed else f"{major}.{minor}.{patch + 1}"
