"""The environment of child and kernel: an allow-list, so that no secret of the worker leaks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from nbledger_infrastructure.passed_on import passed_on

_R_PROFILE: Final = Path(__file__).with_name("r_profile.R")

#: Needed to find programs and libraries, to speak the user's language, and to be found again.
ALLOWED: Final = frozenset(
    {
        *("LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONPATH"),
        *("PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV", "CONDA_PREFIX", "JUPYTER_PATH", "JAVA_HOME"),
        *("R_HOME", "R_LIBS", "R_LIBS_SITE", "R_LIBS_USER", "SSL_CERT_FILE", "SSL_CERT_DIR"),
        *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    }
)


#: Where a kernel finds the file that tells of its run.
RUN_FILE_VARIABLE: Final = "NBLEDGER_RUN_FILE"


def run_file(working_dir: Path) -> Path:
    """The file in which a notebook finds the ids, the dataset and the parameters of its run."""
    return working_dir / ".nbledger" / "run.json"


def results_folder(working_dir: Path) -> Path:
    """Where a notebook hands results back, beside the file that tells of its run."""
    return run_file(working_dir).with_name("results")


def datasets_folder(working_dir: Path) -> Path:
    """Where a notebook finds the datasets of its run."""
    return run_file(working_dir).with_name("datasets")


def outputs_folder(working_dir: Path) -> Path:
    """Where a notebook puts files that are to be kept."""
    return working_dir / "outputs"


def allowed(environment: Mapping[str, str]) -> dict[str, str]:
    """The allow-listed part of an environment."""
    return passed_on(ALLOWED, beginnings=("LC_",), environment=environment)


def child_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What the supervising child gets: the allow-list, a home, and the way to this package."""
    result = allowed(environment)
    if "HOME" in environment:
        # Kernelspecs that the user installed are looked for there.
        result["HOME"] = environment["HOME"]
    return result


def kernel_environment(environment: Mapping[str, str], working_dir: Path) -> dict[str, str]:
    """What the kernel gets: the allow-list, and a home and temporary folder of its own.

    Makes those folders, `.home` and `.tmp` in the working folder, and those for what is kept of
    the run.
    """
    home = working_dir / ".home"
    temporary = working_dir / ".tmp"
    # Where a notebook in R installs what it needs: R takes the first that it may write.
    library = home / "R"
    for folder in (home, temporary, library):
        folder.mkdir(mode=0o700, exist_ok=True)
    known = allowed(environment)
    run_file(working_dir).parent.mkdir(mode=0o700, exist_ok=True)
    for folder in (results_folder(working_dir), outputs_folder(working_dir)):
        folder.mkdir(exist_ok=True)
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        **known,
        "PYTHONUNBUFFERED": "1",
        "R_LIBS": os.pathsep.join(filter(None, [str(library), known.get("R_LIBS")])),
        "R_PROFILE_USER": str(_R_PROFILE),
        "HOME": str(home),
        "TMPDIR": str(temporary),
        "PWD": str(working_dir),
        RUN_FILE_VARIABLE: str(run_file(working_dir)),
    }
