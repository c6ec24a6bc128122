"""Tiny wheels in a folder, from which uv installs without any network."""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest


def make_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    requires: Sequence[str] = (),
    requires_python: str | None = None,
    tag: str = "py3-none-any",
    source: str = "",
    besides: Mapping[str, str] | None = None,
) -> Path:
    """A wheel with one package of this name, which has a `VERSION` and is `source`.

    `besides` are further files of it, by their path. It has no date: the same is the same, whenever
    it is made.
    """
    headers = [f"Requires-Dist: {each}\n" for each in requires]
    if requires_python is not None:
        headers.append(f"Requires-Python: {requires_python}\n")
    folder.mkdir(parents=True, exist_ok=True)
    about = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": f"VERSION = {version!r}\n{source}",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        + "".join(headers),
        f"{about}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
        **(besides or {}),
    }
    record = f"{about}/RECORD,,\n"
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for inside, content in files.items():
            wheel.writestr(zipfile.ZipInfo(inside), content)
            digest = hashlib.sha256(content.encode()).digest()
            encoded = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
            record += f"{inside},sha256={encoded},{len(content)}\n"
        wheel.writestr(zipfile.ZipInfo(f"{about}/RECORD"), record)
    return path


def only_from(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let uv know no other packages than those of the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder.parent / "uv.toml"
    config.write_text(f"no-index = true\nfind-links = [{json.dumps(str(folder))}]\n")
    for name in ("UV_INDEX", "UV_INDEX_URL", "UV_DEFAULT_INDEX", "UV_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UV_CONFIG_FILE", str(config))
    monkeypatch.setenv("UV_CACHE_DIR", str(folder.parent / "uv-cache"))
    monkeypatch.setenv("UV_OFFLINE", "1")
