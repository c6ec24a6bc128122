"""A list of packages is kept once for each notebook, and remembered by few bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from uuid import uuid4

import pytest

from nbledger_infrastructure.artifacts.store import ArtifactStore, Scope, open_store
from nbledger_infrastructure.packages import Installed
from nbledger_workers.storing.spool import Spool
from nbledger_workers.translation import package_lists
from nbledger_workers.translation.package_lists import PackageLists


async def test_a_list_is_kept_once_for_each_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package_lists, "REMEMBERED", 2)
    artifacts = ArtifactStore(open_store((tmp_path / "artifacts").as_uri()))
    spool = Spool(artifacts, lambda: tmp_path, max_bytes=1_000, seconds=1.0, on_failed=lambda: None)
    lists, content = PackageLists(), b"a==1\nb==2\n"
    one, other = (Scope(uuid4(), uuid4(), uuid4()) for _ in range(2))
    found = await lists.keep(spool, one, content)
    assert (found.digest, found.size) == (hashlib.sha256(content).hexdigest(), 10)
    assert await artifacts.get(one, found.digest) == content
    await artifacts.delete_all(one)
    # Remembered: whoever deletes the notebook has no more runs of it.
    assert await lists.keep(spool, one, content) == found
    assert await artifacts.delete_all(one) == 0
    assert await lists.keep(spool, other, content) == found
    assert await artifacts.get(other, found.digest) == content
    # What was remembered for longest is forgotten, and kept again.
    await lists.keep(spool, Scope(uuid4(), uuid4(), uuid4()), content)
    await lists.keep(spool, one, content)
    assert await artifacts.get(one, found.digest) == content
    await spool.close()


def test_what_is_added_stands_in_the_place_of_what_the_interpreter_has() -> None:
    installed = Installed()
    before = installed.listed().decode().splitlines()
    assert f"pandas=={installed.version('pandas')}" in before
    after = installed.listed(["Pandas==0.1", "our_rules"]).decode().splitlines()
    assert {"Pandas==0.1", "our_rules"} <= set(after)
    assert [each for each in after if each.lower().startswith("pandas==")] == ["Pandas==0.1"]
    assert len(after) == len(before) + 1
