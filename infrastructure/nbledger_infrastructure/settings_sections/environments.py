"""Settings of environments."""

from typing import Annotated

import msgspec
from msgspec import Meta

NotNegative = Annotated[int, Meta(ge=0)]


class Environments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Packages and libraries that notebooks ask for and the kernels' own environment lacks.

    With ``provisioning`` they are installed into environments in ``folder``, which workers on one
    machine may share; by default one in the user's cache. Where packages come from is said to uv
    itself, by its configuration file or its ``UV_…`` variables. ``build_seconds`` is what making
    one may take, ``max_environment_mb`` how large one may be, ``max_mb`` all together: those
    unused for longest go first; 0 is no limit. Without ``provisioning`` a run gets a warning for
    what is lacking. ``library_folder`` holds custom libraries: wheels, packages, modules.
    """

    provisioning: bool = True
    folder: str = ""
    build_seconds: Annotated[float, Meta(gt=0)] = 600.0
    max_environment_mb: NotNegative = 5_000
    max_mb: NotNegative = 20_000
    library_folder: str = ""
