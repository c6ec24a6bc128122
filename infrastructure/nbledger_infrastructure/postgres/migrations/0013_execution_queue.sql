-- The queue: a row for each execution that has not ended, written by the append that changes it.
-- So workers, sweepers and whoever publishes lost commands know what waits from the write side
-- alone, and exactly: no projection need run for that, and none can be behind.

CREATE TABLE execution_queue (
    execution_id uuid PRIMARY KEY,
    notebook_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    project_id uuid NOT NULL,
    kernel_type text NOT NULL,
    priority text NOT NULL,
    requested_at timestamptz NOT NULL,  -- recorded, by the clock of the database
    state text NOT NULL CHECK (state IN ('waiting', 'claimed')),
    position bigint NOT NULL,           -- of the append that made it so: its last event
    since timestamptz NOT NULL          -- when that was recorded
) WITH (
    -- Rows come and go with each run; the dead ones lie before those that wait.
    autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0.05
);

-- Waiting executions by what may take them, and by age; and the few that are taken.
CREATE INDEX ON execution_queue (kernel_type, priority, requested_at, execution_id)
    WHERE state = 'waiting';
CREATE INDEX ON execution_queue (requested_at, execution_id) WHERE state = 'waiting';
CREATE INDEX ON execution_queue (execution_id) WHERE state = 'claimed';

-- Filled in two passes: first from all events while appends go on, then, with appends held from
-- there to the commit, once more for the streams that have got events meanwhile.
DO $$
DECLARE
    through bigint;
    news uuid[];  -- NULL: every stream
BEGIN
    FOR pass IN 1..2 LOOP
        IF pass = 2 THEN
            PERFORM pg_advisory_xact_lock(8242543731);
            news := ARRAY(SELECT DISTINCT e.stream_id FROM event AS e WHERE e.position > through);
            DELETE FROM execution_queue WHERE execution_id = ANY (news);
        END IF;
        -- Events commit in the order of positions: each later statement sees all up to this one.
        SELECT coalesce(max(e.position), 0) INTO through FROM event AS e;
        INSERT INTO execution_queue (
            execution_id, notebook_id, tenant_id, project_id, kernel_type, priority,
            requested_at, state, position, since
        )
        SELECT
            asked.stream_id, asked.subject_id, asked.tenant_id, asked.project_id,
            request.data ->> 'kernelType',
            coalesce(request.data -> 'options' ->> 'priority', 'Normal'), asked.recorded_at,
            CASE last.type WHEN 'execution.claimed.v1' THEN 'claimed' ELSE 'waiting' END,
            last.position, last.recorded_at
        FROM event AS asked
        CROSS JOIN LATERAL (
            -- Nothing can be read from JSON that holds an escaped NUL; a backslash before it is
            -- its own.
            SELECT regexp_replace(
                asked.data::text, '(?<!\\)((?:\\\\)*)\\u0000', '\1', 'g'
            )::json AS data
        ) AS request
        CROSS JOIN LATERAL (
            SELECT e.type, e.position, e.recorded_at FROM event AS e
            WHERE e.stream_id = asked.stream_id AND e.type IN (
                'execution.requested.v1', 'execution.claimed.v1', 'execution.attempt-lost.v1'
            )
            ORDER BY e.version DESC LIMIT 1
        ) AS last
        WHERE asked.type = 'execution.requested.v1' AND asked.data IS NOT NULL
            AND (news IS NULL OR asked.stream_id = ANY (news))
            AND NOT EXISTS (
                SELECT FROM event AS ended
                WHERE ended.stream_id = asked.stream_id AND ended.type IN (
                    'execution.completed.v1', 'execution.failed.v1', 'execution.timed-out.v1',
                    'execution.kernel-died.v1', 'execution.cancelled.v1'
                )
            );
    END LOOP;
END
$$;

-- The function that appends, with the queue. An element per append: the state that it brings its
-- execution to (`waiting`, `claimed`, `ended`; NULL: none), and of one that comes in anew the
-- kernel type and the priority. All three are NULL for a batch that changes no queue, which then
-- costs what it did before. They have no default: who does not know the queue appends nothing.
DROP FUNCTION append_events;
CREATE FUNCTION append_events(
    streams uuid[], subjects uuid[], tenants uuid[], projects uuid[],
    expected integer[], metadatas text[], unchanged_since bigint,
    owners integer[], event_ids uuid[], types text[], datas text[], occurred timestamptz[],
    queue_states text[], kernel_types text[], priorities text[],
    OUT base bigint, OUT refused integer[], OUT actual integer[], OUT known boolean[]
)
LANGUAGE plpgsql VOLATILE
-- A plan made while the table was small stays cached as it grows, so take the indexes from the
-- start. Every look-up in here is of one row.
SET enable_seqscan = off
SET enable_bitmapscan = off
SET plan_cache_mode = force_generic_plan
SET jit = off
AS $$
DECLARE
    recorded timestamptz;
    heads integer[];
    chains bytea[];
    moved uuid[];
    moved_to text;
BEGIN
    -- Before any statement takes its snapshot: whoever gets the lock sees all that was committed.
    PERFORM pg_advisory_xact_lock(8242543731);

    SELECT e.position, greatest(clock_timestamp(), e.recorded_at) INTO base, recorded
    FROM event e ORDER BY e.position DESC LIMIT 1;
    IF NOT FOUND THEN
        base := 0;
        recorded := clock_timestamp();
    END IF;

    SELECT array_agg(coalesce(head.version, 0) ORDER BY a.i),
           array_agg(coalesce(head.chain, decode(repeat('00', 32), 'hex')) ORDER BY a.i)
    INTO heads, chains
    FROM unnest(streams) WITH ORDINALITY AS a (stream_id, i)
    LEFT JOIN LATERAL (
        SELECT e.version, e.chain FROM event e
        WHERE e.stream_id = a.stream_id ORDER BY e.version DESC LIMIT 1
    ) AS head ON true;

    IF heads <> expected THEN
        SELECT
            array_agg(a.i ORDER BY a.i),
            array_agg(a.head ORDER BY a.i),
            array_agg(EXISTS (
                SELECT FROM event e
                WHERE e.event_id = event_ids[coalesce(array_position(owners, a.i::integer), a.i)]
            ) ORDER BY a.i)
        INTO refused, actual, known
        FROM unnest(heads, expected) WITH ORDINALITY AS a (head, expected, i)
        WHERE a.head <> a.expected;
    ELSIF unchanged_since IS NOT NULL AND EXISTS (
        SELECT FROM event e WHERE e.subject_id = subjects[1] AND e.position > unchanged_since
    ) THEN
        refused := ARRAY[1];
        actual := heads;
        known := ARRAY[false];
    END IF;
    IF cardinality(refused) = cardinality(streams) THEN
        RETURN;
    END IF;

    IF refused IS NULL AND owners IS NULL THEN
        -- Nearly always: one event per append, none refused. Nothing to join, number or fold.
        INSERT INTO event (
            position, stream_id, version, event_id, type, subject_id, tenant_id, project_id,
            data, metadata, occurred_at, recorded_at, digest, chain
        )
        SELECT
            l.position, l.stream_id, l.version, l.event_id, l.type, l.subject_id, l.tenant_id,
            l.project_id, l.data::json, l.metadata::json, l.occurred_at, recorded, l.digest,
            sha256(l.chain || event_link(
                l.digest, l.event_id, l.stream_id, l.version, l.subject_id, l.tenant_id,
                l.project_id, l.position, l.metadata, l.occurred_at, recorded, l.type
            ))
        FROM (
            SELECT
                e.*, base + e.i AS position, e.head + 1 AS version,
                sha256(convert_to(e.data, 'UTF8')) AS digest
            FROM unnest(
                streams, subjects, tenants, projects, heads, metadatas, chains,
                event_ids, types, datas, occurred
            ) WITH ORDINALITY AS e (
                stream_id, subject_id, tenant_id, project_id, head, metadata, chain,
                event_id, type, data, occurred_at, i
            )
            OFFSET 0  -- keeps the planner from computing the digest twice
        ) AS l;
    ELSE
        INSERT INTO event (
            position, stream_id, version, event_id, type, subject_id, tenant_id, project_id,
            data, metadata, occurred_at, recorded_at, digest, chain
        )
        SELECT
            l.position, l.stream_id, l.version, l.event_id, l.type, l.subject_id, l.tenant_id,
            l.project_id, l.data::json, l.metadata::json, l.occurred_at, recorded, l.digest,
            chain_agg(l.chain, event_link(
                l.digest, l.event_id, l.stream_id, l.version, l.subject_id, l.tenant_id,
                l.project_id, l.position, l.metadata, l.occurred_at, recorded, l.type
            )) OVER (PARTITION BY l.stream_id ORDER BY l.i)
        FROM (
            SELECT
                e.*, a.stream_id, a.subject_id, a.tenant_id, a.project_id, a.metadata, a.chain,
                base + row_number() OVER (ORDER BY e.i) AS position,
                (a.head + row_number() OVER (PARTITION BY a.i ORDER BY e.i))::integer
                    AS version,
                sha256(convert_to(e.data, 'UTF8')) AS digest
            FROM unnest(streams, subjects, tenants, projects, heads, metadatas, chains)
                WITH ORDINALITY AS a (
                    stream_id, subject_id, tenant_id, project_id, head, metadata, chain, i
                )
            JOIN unnest(owners, event_ids, types, datas, occurred)
                WITH ORDINALITY AS e (owner, event_id, type, data, occurred_at, i)
                ON coalesce(e.owner, e.i) = a.i
            WHERE refused IS NULL OR a.i <> ALL (refused)
            OFFSET 0
        ) AS l;
    END IF;

    IF queue_states IS NOT NULL THEN
        INSERT INTO execution_queue (
            execution_id, notebook_id, tenant_id, project_id, kernel_type, priority,
            requested_at, state, position, since
        )
        SELECT
            a.stream_id, a.subject_id, a.tenant_id, a.project_id, a.kernel_type, a.priority,
            recorded, a.state, head.position, recorded
        FROM unnest(
            streams, subjects, tenants, projects, queue_states, kernel_types, priorities
        ) WITH ORDINALITY AS a (
            stream_id, subject_id, tenant_id, project_id, state, kernel_type, priority, i
        )
        CROSS JOIN LATERAL (
            SELECT e.position FROM event e
            WHERE e.stream_id = a.stream_id ORDER BY e.version DESC LIMIT 1
        ) AS head
        WHERE a.kernel_type IS NOT NULL AND (refused IS NULL OR a.i <> ALL (refused));

        FOREACH moved_to IN ARRAY ARRAY['waiting', 'claimed', 'ended'] LOOP
            CONTINUE WHEN moved_to <> ALL (queue_states);
            moved := ARRAY(
                SELECT a.stream_id
                FROM unnest(streams, queue_states, kernel_types)
                    WITH ORDINALITY AS a (stream_id, state, kernel_type, i)
                WHERE a.state = moved_to AND a.kernel_type IS NULL
                    AND (refused IS NULL OR a.i <> ALL (refused))
            );
            IF moved_to = 'ended' THEN
                DELETE FROM execution_queue AS q WHERE q.execution_id = ANY (moved);
            ELSE
                UPDATE execution_queue AS q
                SET state = moved_to, since = recorded, position = (
                    SELECT e.position FROM event e
                    WHERE e.stream_id = q.execution_id ORDER BY e.version DESC LIMIT 1
                )
                WHERE q.execution_id = ANY (moved);
            END IF;
        END LOOP;
    END IF;

    -- A hint for readers; they poll as well.
    PERFORM pg_notify('event', '');
END
$$;

-- Brings rows that are not as the events say back in line: those of ended executions go, as do
-- those whose request is erased. Each type of event that `types` names brings its execution to the
-- state of the same place in `states`. Looks at the `most` rows after `beyond`; `last` is NULL when
-- there are no more.
CREATE FUNCTION repair_queue(
    types text[], states text[], beyond uuid, most integer, OUT last uuid, OUT repaired integer
)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
SET jit = off
AS $$
DECLARE
    looked uuid[] := ARRAY(
        SELECT q.execution_id FROM execution_queue AS q
        WHERE q.execution_id > beyond ORDER BY q.execution_id LIMIT most
    );
    stale uuid[] := ARRAY(
        SELECT q.execution_id FROM execution_queue AS q
        CROSS JOIN LATERAL (
            SELECT e.position, told.state
            FROM event AS e JOIN unnest(types, states) AS told (type, state) USING (type)
            WHERE e.stream_id = q.execution_id ORDER BY e.version DESC LIMIT 1
        ) AS settled
        WHERE q.execution_id = ANY (looked) AND (
            settled.position > q.position OR settled.state = 'ended' OR EXISTS (
                SELECT FROM event AS e
                WHERE e.stream_id = q.execution_id AND e.version = 1 AND e.data IS NULL
            )
        )
    );
    changed integer;
BEGIN
    IF cardinality(looked) = most THEN
        last := looked[most];
    END IF;
    repaired := 0;
    IF cardinality(stale) = 0 THEN
        RETURN;
    END IF;
    -- Hardly ever: nothing is appended while they are looked at again.
    PERFORM pg_advisory_xact_lock(8242543731);
    DELETE FROM execution_queue AS q
    WHERE q.execution_id = ANY (stale) AND EXISTS (
        SELECT FROM event AS e LEFT JOIN unnest(types, states) AS told (type, state) USING (type)
        WHERE e.stream_id = q.execution_id
            AND (told.state = 'ended' OR (e.version = 1 AND e.data IS NULL))
    );
    GET DIAGNOSTICS repaired = ROW_COUNT;
    UPDATE execution_queue AS q
    SET state = settled.state, position = settled.position, since = settled.recorded_at
    FROM unnest(stale) AS found (id)
    CROSS JOIN LATERAL (
        SELECT e.position, e.recorded_at, told.state
        FROM event AS e JOIN unnest(types, states) AS told (type, state) USING (type)
        WHERE e.stream_id = found.id ORDER BY e.version DESC LIMIT 1
    ) AS settled
    WHERE q.execution_id = found.id AND settled.position > q.position;
    GET DIAGNOSTICS changed = ROW_COUNT;
    repaired := repaired + changed;
END
$$;

-- Erasing takes what cannot be read any more out of the queue: no worker could run or end it.
CREATE OR REPLACE FUNCTION erase_subject(erased uuid) RETURNS bigint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    rows bigint;
    last bigint;
BEGIN
    WITH gone AS (
        UPDATE event SET data = NULL WHERE subject_id = erased AND data IS NOT NULL
        RETURNING position
    )
    SELECT count(*), max(position) INTO rows, last FROM gone;
    IF rows > 0 THEN
        INSERT INTO erasure AS e (subject_id, position) VALUES (erased, last)
        ON CONFLICT (subject_id)
        DO UPDATE SET position = greatest(e.position, last), erased_at = clock_timestamp();
    END IF;
    DELETE FROM execution_queue WHERE execution_id IN (
        SELECT stream_id FROM event WHERE subject_id = erased AND version = 1
    );
    RETURN rows;
END
$$;

-- Nobody looks for what waits in the read model any more.
DO $$
DECLARE
    needless regclass;
BEGIN
    -- A rebuild may have given them other names.
    FOR needless IN
        SELECT indexrelid::regclass FROM pg_index
        WHERE indrelid = 'execution_status'::regclass
            AND pg_get_expr(indpred, indrelid) LIKE '%NOT ended%'
    LOOP
        EXECUTE format('DROP INDEX %s', needless);
    END LOOP;
END
$$;

-- What the write side publishes of leases: what a run uses while it runs. The status of an
-- execution shows it, and need know nothing else of them.
CREATE VIEW execution_usage AS
SELECT execution_id, usage, used_at FROM execution_lease WHERE usage IS NOT NULL;
