-- Digests with salt, and names apart from events.
--
-- What an event commits to is hashed with 16 random bytes before it. The salt of the data is erased
-- with the data, so that the digest that stays confirms no guess. Rows from before keep the digests
-- and chain values that they have: `formula` tells by which formula a row was hashed.
--
--   1  digest = SHA-256(data); the chain as migration 0001 says
--   2  digest = SHA-256(salt || data); the chain as event_link_2 below says
--
-- The columns are added without rewriting the table. A statement that goes on for long holds up the
-- ALTER, and that all appends behind it: rather the migration fails and is run again.
SET LOCAL lock_timeout = '30s';

ALTER TABLE event
    ADD COLUMN formula smallint NOT NULL DEFAULT 1,
    ADD COLUMN salt bytea,           -- 16 bytes; NULL with the data once that is erased
    ADD COLUMN metadata_salt bytea;  -- 16 bytes; stays, as the metadata does
-- Rows that are there have 1. Whoever inserts says by which formula.
ALTER TABLE event ALTER COLUMN formula DROP DEFAULT;

-- What a row of formula 2 adds to the chain of its stream:
--   chain = SHA-256(chain of the version before, or 32 zero bytes || event_link_2)
-- where event_link_2 is, one after the other (integers big-endian; all but the last have a fixed
-- length):
--   the formula, 2                                     1 byte
--   digest: SHA-256(salt || data)                     32 bytes
--   event_id, stream_id                               16 + 16
--   version                                            4
--   subject_id, tenant_id, project_id                 16 + 16 + 16
--   position                                           8
--   SHA-256(metadata_salt || metadata)                32
--   occurred_at, recorded_at                           8 + 8   microseconds since 2000-01-01 UTC
--   type, in UTF-8                                    the rest
-- So a chain value can be computed from digests alone, without data or metadata.
CREATE FUNCTION event_link_2(
    digest bytea, event_id uuid, stream_id uuid, version integer, subject_id uuid, tenant_id uuid,
    project_id uuid, "position" bigint, metadata_digest bytea, occurred_at timestamptz,
    recorded_at timestamptz, type text
) RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE  -- STABLE, as convert_to is: or it would not be inlined
RETURN '\x02'::bytea || digest || uuid_send(event_id) || uuid_send(stream_id)
    || int4send(version) || uuid_send(subject_id) || uuid_send(tenant_id) || uuid_send(project_id)
    || int8send("position") || metadata_digest
    || timestamptz_send(occurred_at) || timestamptz_send(recorded_at) || convert_to(type, 'UTF8');

-- Inserts the events of a batch, for append_events alone, which holds the lock and has found the
-- heads and chains of the streams. `randoms` has 32 bytes for each event: the salt of its data,
-- then that of its metadata.
CREATE FUNCTION record_events(
    streams uuid[], subjects uuid[], tenants uuid[], projects uuid[],
    heads integer[], metadatas text[], chains bytea[], refused integer[],
    owners integer[], event_ids uuid[], types text[], datas text[], occurred timestamptz[],
    randoms bytea[], base bigint, recorded timestamptz
) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    IF refused IS NULL AND owners IS NULL THEN
        -- Nearly always: one event per append, none refused. Nothing to join, number or fold.
        INSERT INTO event (
            position, stream_id, version, event_id, type, subject_id, tenant_id, project_id,
            data, metadata, occurred_at, recorded_at, digest, chain, formula, salt, metadata_salt
        )
        SELECT
            l.position, l.stream_id, l.version, l.event_id, l.type, l.subject_id, l.tenant_id,
            l.project_id, l.data::json, l.metadata::json, l.occurred_at, recorded, l.digest,
            sha256(l.chain || event_link_2(
                l.digest, l.event_id, l.stream_id, l.version, l.subject_id, l.tenant_id,
                l.project_id, l.position,
                sha256(substr(l.random, 17) || convert_to(l.metadata, 'UTF8')),
                l.occurred_at, recorded, l.type
            )),
            2, substr(l.random, 1, 16), substr(l.random, 17)
        FROM (
            SELECT
                e.*, base + e.i AS position, e.head + 1 AS version,
                sha256(substr(e.random, 1, 16) || convert_to(e.data, 'UTF8')) AS digest
            FROM unnest(
                streams, subjects, tenants, projects, heads, metadatas, chains,
                event_ids, types, datas, occurred, randoms
            ) WITH ORDINALITY AS e (
                stream_id, subject_id, tenant_id, project_id, head, metadata, chain,
                event_id, type, data, occurred_at, random, i
            )
            OFFSET 0  -- keeps the planner from computing the digest twice
        ) AS l;
    ELSE
        INSERT INTO event (
            position, stream_id, version, event_id, type, subject_id, tenant_id, project_id,
            data, metadata, occurred_at, recorded_at, digest, chain, formula, salt, metadata_salt
        )
        SELECT
            l.position, l.stream_id, l.version, l.event_id, l.type, l.subject_id, l.tenant_id,
            l.project_id, l.data::json, l.metadata::json, l.occurred_at, recorded, l.digest,
            chain_agg(l.chain, event_link_2(
                l.digest, l.event_id, l.stream_id, l.version, l.subject_id, l.tenant_id,
                l.project_id, l.position,
                sha256(substr(l.random, 17) || convert_to(l.metadata, 'UTF8')),
                l.occurred_at, recorded, l.type
            )) OVER (PARTITION BY l.stream_id ORDER BY l.i),
            2, substr(l.random, 1, 16), substr(l.random, 17)
        FROM (
            SELECT
                e.*, a.stream_id, a.subject_id, a.tenant_id, a.project_id, a.metadata, a.chain,
                base + row_number() OVER (ORDER BY e.i) AS position,
                (a.head + row_number() OVER (PARTITION BY a.i ORDER BY e.i))::integer
                    AS version,
                sha256(substr(e.random, 1, 16) || convert_to(e.data, 'UTF8')) AS digest
            FROM unnest(streams, subjects, tenants, projects, heads, metadatas, chains)
                WITH ORDINALITY AS a (
                    stream_id, subject_id, tenant_id, project_id, head, metadata, chain, i
                )
            JOIN unnest(owners, event_ids, types, datas, occurred, randoms)
                WITH ORDINALITY AS e (owner, event_id, type, data, occurred_at, random, i)
                ON coalesce(e.owner, e.i) = a.i
            WHERE refused IS NULL OR a.i <> ALL (refused)
            OFFSET 0
        ) AS l;
    END IF;
END
$$;

-- The function that appends, as before but for the insertion, which is in record_events now.
CREATE OR REPLACE FUNCTION append_events(
    streams uuid[], subjects uuid[], tenants uuid[], projects uuid[],
    expected integer[], metadatas text[], unchanged_since bigint,
    owners integer[], event_ids uuid[], types text[], datas text[], occurred timestamptz[],
    queue_states text[], kernel_types text[], priorities text[],
    principals uuid[] DEFAULT NULL, operations text[] DEFAULT NULL,
    key_digests bytea[] DEFAULT NULL, fingerprints bytea[] DEFAULT NULL,
    answers text[] DEFAULT NULL,
    tenant_limits integer[] DEFAULT NULL, project_limits integer[] DEFAULT NULL,
    notebook_limits integer[] DEFAULT NULL,
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
    beyond record;
    moved uuid[];
    moved_to text;
    seed bytea;
    randoms bytea[];
BEGIN
    -- Salts are made before the lock, so that nobody waits for them. The server's generator is dear:
    -- it gives the 244 bits of a seed, which nobody keeps, and the seed gives those of the batch.
    seed := uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid());
    randoms := ARRAY(
        SELECT sha256(seed || int4send(i)) FROM generate_series(1, cardinality(event_ids)) AS i
    );

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
    IF 'claimed' = ANY (queue_states) OR tenant_limits IS NOT NULL THEN
        SELECT * INTO beyond FROM beyond_limits(
            tenants, projects, subjects, queue_states, kernel_types, tenant_limits, project_limits,
            coalesce(refused, '{}')
        );
        refused := refused || beyond.numbers;
        actual := actual || beyond.codes;
        known := known || array_fill(false, ARRAY[cardinality(beyond.numbers)]);
    END IF;
    IF cardinality(refused) = cardinality(streams) THEN
        RETURN;
    END IF;

    PERFORM record_events(
        streams, subjects, tenants, projects, heads, metadatas, chains, refused,
        owners, event_ids, types, datas, occurred, randoms, base, recorded
    );

    IF queue_states IS NOT NULL THEN
        -- Statements that change nothing would fire the triggers all the same.
        IF kernel_types IS NOT NULL THEN
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
        END IF;

        FOREACH moved_to IN ARRAY ARRAY['waiting', 'claimed', 'ended'] LOOP
            CONTINUE WHEN moved_to <> ALL (queue_states);
            moved := ARRAY(
                SELECT a.stream_id
                FROM unnest(streams, queue_states, kernel_types)
                    WITH ORDINALITY AS a (stream_id, state, kernel_type, i)
                WHERE a.state = moved_to AND a.kernel_type IS NULL
                    AND (refused IS NULL OR a.i <> ALL (refused))
            );
            CONTINUE WHEN cardinality(moved) = 0;
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

    IF notebook_limits IS NOT NULL THEN
        PERFORM keep_notebook_limits(subjects, notebook_limits, refused);
    END IF;

    -- A hint for readers; they poll as well.
    PERFORM pg_notify('event', '');
END
$$;

-- Erasing takes the salt with the data: the digest alone says nothing.
CREATE OR REPLACE FUNCTION erase_subject(erased uuid) RETURNS bigint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    rows bigint;
    last bigint;
BEGIN
    WITH gone AS (
        UPDATE event SET data = NULL, salt = NULL WHERE subject_id = erased AND data IS NOT NULL
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

-- Who acts. Events hold the id, which is random and tells nothing; the name is here alone, and goes
-- when the principal is erased.
CREATE TABLE principal (
    principal_id uuid        PRIMARY KEY,
    tenant_id    uuid        NOT NULL,
    name         text,                 -- NULL once it is erased
    created_at   timestamptz NOT NULL DEFAULT now(),
    erased_at    timestamptz,
    CHECK ((name IS NULL) = (erased_at IS NOT NULL))
);
CREATE UNIQUE INDEX principal_tenant_name ON principal (tenant_id, name);

-- Tokens of one name and tenant have always been one to whoever read the history.
INSERT INTO principal (principal_id, tenant_id, name, created_at)
SELECT gen_random_uuid(), tenant_id, name, min(created_at) FROM api_token GROUP BY tenant_id, name;

ALTER TABLE api_token ADD COLUMN principal_id uuid;
UPDATE api_token AS t SET principal_id = p.principal_id
FROM principal AS p WHERE p.tenant_id = t.tenant_id AND p.name = t.name;
ALTER TABLE api_token
    ALTER COLUMN principal_id SET NOT NULL,
    ADD FOREIGN KEY (principal_id) REFERENCES principal,
    DROP COLUMN name;
CREATE INDEX ON api_token (principal_id);
-- A column that is dropped stays in the table's file until the rows are written anew.
CLUSTER api_token USING api_token_pkey;
ALTER TABLE api_token SET WITHOUT CLUSTER;

-- Statistics are samples of what a column holds, and would keep them after it is erased. Without a
-- target none are taken any more, but those that are there stay: ANALYZE passes such columns over.
-- They go with a change of the column's type, which to the type that it has rewrites nothing.
ALTER TABLE principal ALTER COLUMN name SET STATISTICS 0;
ALTER TABLE idempotency_key
    ALTER COLUMN answer SET STATISTICS 0, ALTER COLUMN answer TYPE text;
ALTER TABLE execution_list
    ALTER COLUMN tags SET STATISTICS 0, ALTER COLUMN tags TYPE text[],
    ALTER COLUMN requested_by SET STATISTICS 0;
DO $$
BEGIN
    -- Not without need: it makes the index of the column anew, which then comes after the others in
    -- the choice of one while the table is not analysed.
    IF EXISTS (
        SELECT FROM pg_stats
        WHERE schemaname = current_schema() AND tablename = 'execution_list'
            AND attname = 'requested_by'
    ) THEN
        ALTER TABLE execution_list ALTER COLUMN requested_by TYPE text;
    END IF;
END
$$;
ALTER TABLE execution_tag
    ALTER COLUMN tag SET STATISTICS 0, ALTER COLUMN tag TYPE text;
-- Who acted is an id from now on, and was a name before.
ALTER TABLE automation
    ALTER COLUMN set_by SET STATISTICS 0, ALTER COLUMN set_by TYPE text;
ALTER TABLE automation_trigger
    ALTER COLUMN set_by SET STATISTICS 0, ALTER COLUMN set_by TYPE text;
ALTER TABLE schedule
    ALTER COLUMN set_by SET STATISTICS 0, ALTER COLUMN set_by TYPE text;
ALTER TABLE schedule_run
    ALTER COLUMN asked_by SET STATISTICS 0, ALTER COLUMN asked_by TYPE text;
