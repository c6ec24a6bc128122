-- Requests that carry an Idempotency-Key: a row for each that has made something, written by the
-- append that made it. So a repetition finds what the first request has made, also when nobody
-- heard the first answer, and two at once make one thing.

CREATE TABLE idempotency_key (
    tenant_id uuid NOT NULL,
    principal_id uuid NOT NULL,       -- the token that the request came with
    operation text NOT NULL,
    key_digest bytea NOT NULL,        -- SHA-256 of the key
    fingerprint bytea,                -- SHA-256 of the request; NULL once it is erased
    answer text,                      -- what every repetition is told alike; NULL likewise
    stream_id uuid NOT NULL,          -- what the request has made
    subject_id uuid NOT NULL,         -- what erases the row's contents
    created_at timestamptz NOT NULL,  -- by the clock of the database
    PRIMARY KEY (tenant_id, principal_id, operation, key_digest)
);
CREATE INDEX ON idempotency_key (subject_id);
CREATE INDEX ON idempotency_key (created_at);

-- The function that appends, with the keys: an element per append, NULL for one without a key. All
-- five are NULL for a batch without keys, which then costs what it did before. They have a default,
-- unlike those of the queue: whoever does not know keys has received none, so processes of the
-- version before go on appending.
--
-- An append whose key is in the table already is refused, with NULL in `actual`; a batch names each
-- key once. The lock is held, so nobody else writes one in between.
DROP FUNCTION append_events;
CREATE FUNCTION append_events(
    streams uuid[], subjects uuid[], tenants uuid[], projects uuid[],
    expected integer[], metadatas text[], unchanged_since bigint,
    owners integer[], event_ids uuid[], types text[], datas text[], occurred timestamptz[],
    queue_states text[], kernel_types text[], priorities text[],
    principals uuid[] DEFAULT NULL, operations text[] DEFAULT NULL,
    key_digests bytea[] DEFAULT NULL, fingerprints bytea[] DEFAULT NULL,
    answers text[] DEFAULT NULL,
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
    used bigint[];
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

    IF key_digests IS NOT NULL THEN
        SELECT array_agg(a.i) INTO used
        FROM unnest(tenants, principals, operations, key_digests)
            WITH ORDINALITY AS a (tenant_id, principal_id, operation, key_digest, i)
        WHERE a.key_digest IS NOT NULL AND EXISTS (
            SELECT FROM idempotency_key AS k
            WHERE k.tenant_id = a.tenant_id AND k.principal_id = a.principal_id
                AND k.operation = a.operation AND k.key_digest = a.key_digest
        );
    END IF;

    IF used IS NOT NULL OR heads <> expected THEN
        SELECT
            array_agg(a.i ORDER BY a.i),
            array_agg(CASE WHEN a.i = ANY (used) THEN NULL ELSE a.head END ORDER BY a.i),
            array_agg(EXISTS (
                SELECT FROM event e
                WHERE e.event_id = event_ids[coalesce(array_position(owners, a.i::integer), a.i)]
            ) ORDER BY a.i)
        INTO refused, actual, known
        FROM unnest(heads, expected) WITH ORDINALITY AS a (head, expected, i)
        WHERE a.head <> a.expected OR a.i = ANY (used);
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

    IF key_digests IS NOT NULL THEN
        INSERT INTO idempotency_key (
            tenant_id, principal_id, operation, key_digest, fingerprint, answer, stream_id,
            subject_id, created_at
        )
        SELECT
            a.tenant_id, a.principal_id, a.operation, a.key_digest, a.fingerprint, a.answer,
            a.stream_id, a.subject_id, recorded
        FROM unnest(
            tenants, principals, operations, key_digests, fingerprints, answers, streams, subjects
        ) WITH ORDINALITY AS a (
            tenant_id, principal_id, operation, key_digest, fingerprint, answer, stream_id,
            subject_id, i
        )
        WHERE a.key_digest IS NOT NULL AND (refused IS NULL OR a.i <> ALL (refused));
    END IF;

    -- A hint for readers; they poll as well.
    PERFORM pg_notify('event', '');
END
$$;

-- Erasing takes with it what a key's row tells of the request. That the key has been used stays
-- until the row expires, so that a late repetition makes nothing anew.
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
    UPDATE idempotency_key SET fingerprint = NULL, answer = NULL
    WHERE subject_id = erased AND fingerprint IS NOT NULL;
    RETURN rows;
END
$$;
