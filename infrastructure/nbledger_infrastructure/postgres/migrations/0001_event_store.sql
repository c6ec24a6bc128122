-- The event store: one append-only table, and the one function that appends to it.

CREATE TABLE event (
    -- Gapless; assigned under a lock that is held until the commit, so position order is commit
    -- order, and a reader that asks for `position > p` never misses a late row.
    position bigint NOT NULL,
    stream_id uuid NOT NULL,
    version integer NOT NULL,      -- 1, 2, 3, … in each stream
    event_id uuid NOT NULL,
    type text NOT NULL,
    subject_id uuid NOT NULL,      -- the notebook that the event concerns
    tenant_id uuid NOT NULL,
    project_id uuid NOT NULL,
    data json,                     -- json, not jsonb: it keeps the text that was hashed; NULL = erased
    metadata json NOT NULL,
    occurred_at timestamptz NOT NULL,  -- the clock of the domain
    recorded_at timestamptz NOT NULL,  -- the clock of the database; never falls as positions rise
    digest bytea NOT NULL,         -- SHA-256 of the data text
    chain bytea NOT NULL,          -- SHA-256 over the chain before it and all of the row, see below
    CONSTRAINT event_position PRIMARY KEY (position),
    CONSTRAINT event_stream_version UNIQUE (stream_id, version),
    CONSTRAINT event_event_id UNIQUE (event_id)
);

CREATE INDEX event_subject_position ON event (subject_id, position);

-- Data may be NULL up to this position because somebody erased the subject.
CREATE TABLE erasure (
    subject_id uuid PRIMARY KEY,
    position bigint NOT NULL,
    erased_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What a row adds to the chain of its stream:
--   chain = SHA-256(chain of the version before, or 32 zero bytes || event_link)
-- where event_link is, one after the other (integers big-endian, all of fixed length but the last):
--   digest                                            32 bytes
--   event_id, stream_id                               16 + 16
--   version                                            4
--   subject_id, tenant_id, project_id                 16 + 16 + 16
--   position                                           8
--   SHA-256 of the metadata text                      32
--   occurred_at, recorded_at                           8 + 8   microseconds since 2000-01-01 UTC
--   type, in UTF-8                                    the rest
CREATE FUNCTION event_link(
    digest bytea, event_id uuid, stream_id uuid, version integer, subject_id uuid, tenant_id uuid,
    project_id uuid, "position" bigint, metadata text, occurred_at timestamptz,
    recorded_at timestamptz, type text
) RETURNS bytea
LANGUAGE sql STABLE PARALLEL SAFE  -- STABLE, as convert_to is: or it would not be inlined
RETURN digest || uuid_send(event_id) || uuid_send(stream_id) || int4send(version)
    || uuid_send(subject_id) || uuid_send(tenant_id) || uuid_send(project_id)
    || int8send("position") || sha256(convert_to(metadata, 'UTF8'))
    || timestamptz_send(occurred_at) || timestamptz_send(recorded_at) || convert_to(type, 'UTF8');

CREATE FUNCTION chain_link(chain bytea, head bytea, link bytea) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$ BEGIN RETURN sha256(coalesce(chain, head) || link); END $$;

-- The chain after several links, from the head of the stream on.
CREATE AGGREGATE chain_agg (head bytea, link bytea) (SFUNC = chain_link, STYPE = bytea);

-- Append all of a batch in one round trip and one commit.
--
-- The first arrays hold an element per append, the last ones an element per event; `owners` says
-- to which append (1, 2, …) an event belongs, in order (NULL: each has one event). An append whose stream is not at its
-- expected version is left out, alone: `refused` names it, `actual` the version found, and
-- `known` whether its first event is in the store already. The others get consecutive positions
-- after `base`, in order. A stream may be in a batch only once.
--
-- `unchanged_since` (NULL: no matter): refuse unless the subject has no event after that position.
-- Only a batch of one append may use it.
CREATE FUNCTION append_events(
    streams uuid[], subjects uuid[], tenants uuid[], projects uuid[],
    expected integer[], metadatas text[], unchanged_since bigint,
    owners integer[], event_ids uuid[], types text[], datas text[], occurred timestamptz[],
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

    -- A hint for readers; they poll as well.
    PERFORM pg_notify('event', '');
END
$$;

-- Drop the data of every event of a subject for good; all else stays, so the chains still verify.
CREATE FUNCTION erase_subject(erased uuid) RETURNS bigint
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
    RETURN rows;
END
$$;
