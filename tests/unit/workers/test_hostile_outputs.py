"""Outputs that are made to be hard to look at are kept like any other."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from nbledger_infrastructure.artifacts.store import ArtifactStore, Scope, open_store
from nbledger_workers.storing.spool import Spool
from nbledger_workers.translation.outputs import OutputKeeper


@pytest.mark.parametrize(
    ("media_type", "text"),
    [
        # Read anew to the end for each of them these would take hours.
        ("text/html", "<table " * 300_000),
        ("text/html", "<table class='" * 150_000),
        ("text/html", "<table id='T_" * 150_000),
        ("image/svg+xml", f"<svg width='{'9' * 400}' height='10'></svg>"),
        ("image/svg+xml", "<svg width='1.2.3' height='.'></svg>"),
        ("image/svg+xml", "<svg " * 300_000),
    ],
    ids=["table", "class", "id", "wide", "no number", "svg"],
)
async def test_it_is_kept(tmp_path: Path, media_type: str, text: str) -> None:
    store = ArtifactStore(open_store(tmp_path.as_uri()))
    spool = Spool(store, lambda: tmp_path, max_bytes=1, seconds=1, on_failed=lambda: None)
    keeper = OutputKeeper(spool, Scope(uuid4(), uuid4(), uuid4()))
    output = {"output_type": "display_data", "data": {media_type: text}, "metadata": {}}
    (kept,) = await keeper.keep(0, [msgspec.json.encode(output)], title=None)
    (form,) = kept.representations
    assert form.size == len(text)
    assert (kept.width, kept.height) == (None, None)
