"""What a notebook may ask for: names of packages, with versions where it matters."""

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name


def parse_requirement(text: str) -> Requirement:
    """The requirement that ``text`` is, its name normalised.

    Raises :class:`ValueError` that says what is wrong with it. Addresses and paths are refused:
    what they lead to would be run where it is built.
    """
    try:
        found = Requirement(text)
    except InvalidRequirement as error:
        reason = str(error).partition("\n")[0].strip()
        raise ValueError(f"is no requirement such as 'pandas' or 'pandas>=3.1': {reason}") from None
    if found.url is not None:
        raise ValueError("must be a package's name with or without versions, and no address")
    found.name = canonicalize_name(found.name)
    return found
