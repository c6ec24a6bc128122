"""Nothing that is kept of a deleted notebook confirms a guess at what it held."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import msgspec
import pytest
from support.api import Api, running_api, settings_for
from support.event_store import METADATA, new_event, open_pool, open_store
from support.kafka import everything_published
from support.leftovers import WORDS, all_events, confirmed, paths_as_text, tables_as_text
from support.old_store import old_database
from support.outcomes import Left, Outcome, Shown, ended
from support.read_models import running, until_reached
from support.services import kafka_name

from nbledger import roles
from nbledger_application.commands.dataset_versions import TableFile, add_version_of_run
from nbledger_application.reactions import eraser
from nbledger_domain.dataset import Column, Source
from nbledger_infrastructure.artifacts.store import ArtifactStore
from nbledger_infrastructure.artifacts.store import open_store as open_artifacts
from nbledger_infrastructure.postgres.database import migrate
from nbledger_infrastructure.postgres.event_store import Stream
from nbledger_infrastructure.settings import Kafka, Settings
from nbledger_projections.registry import READ_MODELS

PLANTED = WORDS[617]


async def plant(api: Api, artifacts: ArtifactStore, folder: Path) -> tuple[Outcome, UUID]:
    """A notebook that holds the word wherever it can, and a dataset of a run of it."""
    content = PLANTED.encode()
    outcome = await ended(
        api,
        artifacts,
        [[Shown([("text/plain", content)])], [Shown([("text/plain", content + b"\n")])]],
        [Left("file", f"{PLANTED}.txt", content, name=PLANTED)],
    )
    changed = await outcome.client.put(
        outcome.notebook,
        json={
            "notebookName": PLANTED,
            "notebookDescription": PLANTED,
            "integration": {
                "scheduleExecution": {"cron": "0 0 1 1 *", "parameters": {"who": PLANTED}}
            },
        },
    )
    assert changed.status_code == 200, changed.text
    put = await outcome.client.put(f"{outcome.notebook}/file/{PLANTED}.txt", content=content)
    assert put.status_code == 201, put.text
    asked = await outcome.client.post(
        f"{outcome.notebook}/execute",
        json={"parameters": {"who": PLANTED}, "tags": [PLANTED]},
        headers={"Idempotency-Key": '"a-key"'},
    )
    assert asked.status_code == 202, asked.text
    path = folder / "table.parquet"
    path.write_bytes(content)
    dataset_id, _ = await add_version_of_run(
        api.store,
        artifacts,
        Stream(
            *(outcome.scope.notebook_id, outcome.scope.notebook_id),
            *(api.tenant_id, api.project_id),
        ),
        TableFile(path, 1, [Column(PLANTED, "string")]),
        result_name=PLANTED,
        dataset_name=PLANTED,
        source=Source(
            kind="execution",
            execution_id=UUID(outcome.execution[-36:]),
            notebook_id=outcome.scope.notebook_id,
            notebook_version="1.0.0",
        ),
        metadata=METADATA,
        at=datetime.now(UTC),
    )
    return outcome, dataset_id


async def everything(api: Api, folder: Path) -> str:
    tables = await tables_as_text(api.pool)
    return "\n".join([*tables.values(), paths_as_text(folder)])


@pytest.mark.guarantee("G5")
async def test_a_list_of_words_confirms_nothing_once_a_notebook_is_erased(
    database_dsn: str, kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    folder = tmp_path / "artifacts"
    config: Settings = msgspec.structs.replace(
        settings_for(database_dsn, folder),
        kafka=Kafka(
            bootstrap_servers=kafka,
            topic_prefix=topic_prefix,
            # Tansu knows no idempotent producers.
            idempotent=kafka_name() == "apache",
            partitions=3,
        ),
    )
    async with running_api(config) as api, running(roles.projector, config):
        artifacts = ArtifactStore(open_artifacts(config.artifacts.url))
        outcome, dataset_id = await plant(api, artifacts, tmp_path)
        (tmp_path / "table.parquet").unlink()
        await until_reached(api.pool, await api.store.head_position(), *READ_MODELS)

        # Whoever has salts, ids and digests before the erasure finds the word, in each way.
        kept = await everything(api, folder)
        assert PLANTED in kept
        assert confirmed(WORDS, kept, await all_events(api.pool)) == {
            PLANTED: {"a digest", "a salted digest", "an id", "a chain value"}
        }

        for path in (f"{outcome.notebook}?force=true", f"/dataset/{dataset_id}"):
            assert (await outcome.client.delete(path)).status_code == 204
        await until_reached(api.pool, await api.store.head_position(), *READ_MODELS, eraser.NAME)
        kept = await everything(api, folder)
        kept += await everything_published(config, api.pool, await api.store.head_position())
        events = await all_events(api.pool)
        assert len(events) > 15
        assert all(row["data"] is None and row["salt"] is None for row in events)
        assert PLANTED not in kept
        assert confirmed(WORDS, kept, events) == {}
        # Nor is there a folder that begins as a digest does.
        assert str(outcome.scope.notebook_id) not in paths_as_text(folder)


async def test_events_of_before_there_was_salt_still_confirm_a_guess() -> None:
    """As the documents say of them; and so would the check find what it is to find."""
    subject = uuid4()
    async with old_database() as (dsn, old):
        async with open_store(old) as store:
            stream = Stream(subject, subject, uuid4(), uuid4())
            renamed = new_event(f'{{"name":"{PLANTED}"}}'.encode(), "notebook.renamed.v1")
            await store.append(stream, [renamed], expected_version=0, metadata=METADATA)
        await migrate(dsn)
        async with open_pool(dsn) as pool:
            await pool.execute("SELECT erase_subject($1)", subject)
            kept = "\n".join((await tables_as_text(pool)).values())
            assert PLANTED not in kept
            assert confirmed(WORDS, kept, await all_events(pool)) == {
                PLANTED: {"a digest", "a chain value"}
            }
