-- Fair sharing and limits. What waits and what runs is counted for each tenant, project and
-- notebook, so that finding the next run, and comparing with a limit, takes a few look-ups however
-- much waits. The counts follow the queue by triggers, in the transaction that changes it.

CREATE TABLE queue_share (
    level smallint NOT NULL CHECK (level IN (1, 2, 3)),  -- tenant, project, notebook
    tenant_id uuid NOT NULL,
    project_id uuid NOT NULL,    -- nil at level 1
    notebook_id uuid NOT NULL,   -- nil at levels 1 and 2
    kernel_type text NOT NULL,
    priority text NOT NULL,
    waiting integer NOT NULL,
    running integer NOT NULL,    -- claimed by a worker
    -- When a run of it was claimed last. Before the first claim: when it came, 1000 years earlier,
    -- so that whoever was never served comes first, in the order of coming.
    served_at timestamptz NOT NULL,
    PRIMARY KEY (level, tenant_id, project_id, notebook_id, kernel_type, priority)
) WITH (
    fillfactor = 50, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0.05
);

-- The order of turns at each level: fewest running, then served least recently.
CREATE INDEX ON queue_share (kernel_type, priority, running, served_at, tenant_id)
    WHERE level = 1 AND waiting > 0;
CREATE INDEX ON queue_share (kernel_type, priority, tenant_id, running, served_at, project_id)
    WHERE level = 2 AND waiting > 0;
CREATE INDEX ON queue_share (
    kernel_type, priority, tenant_id, project_id, running, served_at, notebook_id
) WHERE level = 3 AND waiting > 0;
-- Shares that are remembered for the sake of served_at alone.
CREATE INDEX ON queue_share (served_at) WHERE waiting = 0 AND running = 0;

-- Within a notebook the oldest comes first.
CREATE INDEX ON execution_queue (notebook_id, kernel_type, priority, requested_at, execution_id)
    WHERE state = 'waiting';

-- How long runs take: a moving mean, from the claim to the end.
CREATE TABLE queue_pace (
    kernel_type text PRIMARY KEY,
    seconds double precision NOT NULL
);

-- How many runs of a notebook may be claimed at once, where its settings say so.
CREATE TABLE notebook_run_limit (
    notebook_id uuid PRIMARY KEY,
    max_running integer NOT NULL CHECK (max_running > 0)
);

-- Adds what rows of the queue count for after a change, and takes away what they did before.
CREATE FUNCTION count_shares(before execution_queue[], after execution_queue[]) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    one execution_queue;
    nobody uuid := '00000000-0000-0000-0000-000000000000';
    waits integer := 0;
    runs integer := 0;
    turn timestamptz;
BEGIN
    IF cardinality(before) <= 1 AND cardinality(after) <= 1 THEN
        -- Nearly always: nothing to add up.
        IF cardinality(before) = 1 THEN
            one := before[1];
            waits := waits - (one.state = 'waiting')::integer;
            runs := runs - (one.state = 'claimed')::integer;
        END IF;
        IF cardinality(after) = 1 THEN
            one := after[1];
            waits := waits + (one.state = 'waiting')::integer;
            runs := runs + (one.state = 'claimed')::integer;
        END IF;
        IF waits <> 0 OR runs <> 0 THEN
            turn := CASE WHEN runs > 0 THEN one.since
                ELSE one.requested_at - interval '1000 years' END;
            INSERT INTO queue_share AS s (
                level, tenant_id, project_id, notebook_id, kernel_type, priority, waiting,
                running, served_at
            ) VALUES
                (1, one.tenant_id, nobody, nobody, one.kernel_type, one.priority, waits,
                 runs, turn),
                (2, one.tenant_id, one.project_id, nobody, one.kernel_type, one.priority, waits,
                 runs, turn),
                (3, one.tenant_id, one.project_id, one.notebook_id, one.kernel_type, one.priority,
                 waits, runs, turn)
            ON CONFLICT (level, tenant_id, project_id, notebook_id, kernel_type, priority)
            DO UPDATE SET
                waiting = s.waiting + excluded.waiting,
                running = s.running + excluded.running,
                served_at = CASE WHEN excluded.running > 0 THEN excluded.served_at
                    ELSE s.served_at END;
        END IF;
        RETURN;
    END IF;
    INSERT INTO queue_share AS s (
        level, tenant_id, project_id, notebook_id, kernel_type, priority, waiting, running,
        served_at
    )
    SELECT
        scope.level, moved.tenant_id, scope.project_id, scope.notebook_id, moved.kernel_type,
        moved.priority, sum(moved.waiting), sum(moved.running),
        coalesce(
            max(moved.since) FILTER (WHERE moved.running > 0),
            min(moved.requested_at) - interval '1000 years'
        )
    FROM (
        SELECT
            a.*, (a.state = 'waiting')::integer AS waiting,
            (a.state = 'claimed')::integer AS running
        FROM unnest(after) AS a
        UNION ALL
        SELECT b.*, -(b.state = 'waiting')::integer, -(b.state = 'claimed')::integer
        FROM unnest(before) AS b
    ) AS moved
    CROSS JOIN LATERAL (
        VALUES
            (1, uuid '00000000-0000-0000-0000-000000000000',
                uuid '00000000-0000-0000-0000-000000000000'),
            (2, moved.project_id, uuid '00000000-0000-0000-0000-000000000000'),
            (3, moved.project_id, moved.notebook_id)
    ) AS scope (level, project_id, notebook_id)
    GROUP BY 1, 2, 3, 4, 5, 6
    HAVING sum(moved.waiting) <> 0 OR sum(moved.running) <> 0
    ON CONFLICT (level, tenant_id, project_id, notebook_id, kernel_type, priority) DO UPDATE SET
        waiting = s.waiting + excluded.waiting,
        running = s.running + excluded.running,
        served_at = CASE WHEN excluded.running > 0 THEN excluded.served_at ELSE s.served_at END;
END
$$;

CREATE FUNCTION share_queue() RETURNS trigger LANGUAGE plpgsql
AS $$
DECLARE
    before execution_queue[] := '{}';
    after execution_queue[] := '{}';
BEGIN
    IF TG_OP <> 'INSERT' THEN
        before := ARRAY(SELECT ROW(o.*)::execution_queue FROM old_rows AS o);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        after := ARRAY(SELECT ROW(n.*)::execution_queue FROM new_rows AS n);
    END IF;
    IF cardinality(before) + cardinality(after) > 0 THEN
        PERFORM count_shares(before, after);
    END IF;
    IF TG_OP = 'DELETE' THEN
        INSERT INTO queue_pace AS p (kernel_type, seconds)
        SELECT b.kernel_type, avg(extract(epoch FROM clock_timestamp() - b.since))
        FROM unnest(before) AS b WHERE b.state = 'claimed' GROUP BY b.kernel_type
        ON CONFLICT (kernel_type)
        DO UPDATE SET seconds = 0.9 * p.seconds + 0.1 * excluded.seconds;
    END IF;
    RETURN NULL;
END
$$;

-- Whoever changes the queue holds the lock of appends, so that one at a time writes shares.
CREATE FUNCTION hold_queue() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(8242543731);
    RETURN NULL;
END
$$;

CREATE TRIGGER hold BEFORE INSERT OR UPDATE OR DELETE ON execution_queue
    FOR EACH STATEMENT EXECUTE FUNCTION hold_queue();
CREATE TRIGGER share_inserted AFTER INSERT ON execution_queue
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION share_queue();
CREATE TRIGGER share_updated AFTER UPDATE ON execution_queue
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION share_queue();
CREATE TRIGGER share_deleted AFTER DELETE ON execution_queue
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION share_queue();

-- What is in the queue already counts from now on.
SELECT pg_advisory_xact_lock(8242543731);
SELECT count_shares('{}', ARRAY(SELECT ROW(q.*)::execution_queue FROM execution_queue AS q));

-- How many runs of a tenant, project or notebook are claimed, of all kernel types. (A function in
-- SQL would be planned at every call.)
CREATE FUNCTION running_runs(
    of_level integer, tenant uuid,
    project uuid DEFAULT '00000000-0000-0000-0000-000000000000',
    notebook uuid DEFAULT '00000000-0000-0000-0000-000000000000'
) RETURNS bigint
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN (
        SELECT coalesce(sum(s.running), 0) FROM queue_share AS s
        WHERE s.level = of_level AND s.tenant_id = tenant AND s.project_id = project
            AND s.notebook_id = notebook
    );
END
$$;

-- The run that a free slot takes next: of the first of the priorities that has any, and there of
-- the tenant with the fewest running, then served least recently; within it of such a project,
-- within that of such a notebook, and there the oldest. Whatever has reached a limit is left out, as
-- are runs that the worker has tried in vain (passed_over), or that a worker still has a lease for.
-- At most so many shares are looked at in vain as there are runs claimed.
CREATE FUNCTION next_waiting(
    kernel_types text[], priorities text[], tenant_limit integer, project_limit integer,
    passed_over uuid[]
) RETURNS SETOF execution_queue
LANGUAGE plpgsql STABLE
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_sort = off
SET plan_cache_mode = force_generic_plan
SET jit = off
AS $$
DECLARE
    class text;
    kind text;
    t record;
    p record;
    n record;
    oldest execution_queue;
    best execution_queue;
    best_running integer;
    best_served timestamptz;
BEGIN
    FOREACH class IN ARRAY priorities LOOP
        FOREACH kind IN ARRAY kernel_types LOOP
            <<seek>>
            FOR t IN
                SELECT s.tenant_id, s.running, s.served_at FROM queue_share AS s
                WHERE s.level = 1 AND s.waiting > 0 AND s.kernel_type = kind AND s.priority = class
                ORDER BY s.running, s.served_at, s.tenant_id
            LOOP
                EXIT WHEN (t.running, t.served_at) >= (best_running, best_served);
                CONTINUE WHEN running_runs(1, t.tenant_id) >= tenant_limit;
                FOR p IN
                    SELECT s.project_id FROM queue_share AS s
                    WHERE s.level = 2 AND s.waiting > 0 AND s.kernel_type = kind
                        AND s.priority = class AND s.tenant_id = t.tenant_id
                    ORDER BY s.running, s.served_at, s.project_id
                LOOP
                    CONTINUE WHEN running_runs(2, t.tenant_id, p.project_id) >= project_limit;
                    FOR n IN
                        SELECT s.notebook_id, l.max_running FROM queue_share AS s
                        LEFT JOIN notebook_run_limit AS l ON l.notebook_id = s.notebook_id
                        WHERE s.level = 3 AND s.waiting > 0 AND s.kernel_type = kind
                            AND s.priority = class AND s.tenant_id = t.tenant_id
                            AND s.project_id = p.project_id
                        ORDER BY s.running, s.served_at, s.notebook_id
                    LOOP
                        CONTINUE WHEN
                            running_runs(3, t.tenant_id, p.project_id, n.notebook_id)
                            >= n.max_running;
                        SELECT q.* INTO oldest FROM execution_queue AS q
                        WHERE q.state = 'waiting' AND q.notebook_id = n.notebook_id
                            AND q.kernel_type = kind AND q.priority = class
                            AND q.tenant_id = t.tenant_id AND q.project_id = p.project_id
                            AND q.execution_id <> ALL (passed_over)
                            AND NOT EXISTS (
                                SELECT FROM execution_lease AS l
                                WHERE l.execution_id = q.execution_id
                            )
                        ORDER BY q.requested_at, q.execution_id LIMIT 1;
                        IF FOUND THEN
                            best := oldest;
                            best_running := t.running;
                            best_served := t.served_at;
                            EXIT seek;
                        END IF;
                    END LOOP;
                END LOOP;
            END LOOP seek;
        END LOOP;
        IF best.execution_id IS NOT NULL THEN
            RETURN NEXT best;
            RETURN;
        END IF;
    END LOOP;
END
$$;

-- The place of a run that waits: which start of its kernel type and priority it is, up to 1000, if
-- nothing else comes and no limit holds another one back. Before the m-th run of a share, another
-- share of the same level gets as many turns as it has fewer runs, where r and r_o are what runs of
-- each: r + m - 1 - r_o, and one more where it is ahead at the tie. That is so when it has more
-- running from the start (it was served less recently by the time of the tie), or as many and was
-- served less recently. Shares that come first are looked at first, so that looking at no more than
-- are counted leaves nobody out.
CREATE FUNCTION queue_place(run uuid, tenant_limit integer, project_limit integer)
RETURNS TABLE (
    "position" integer, since timestamptz, kernel_type text, seconds double precision,
    running integer, held_by text
)
LANGUAGE sql STABLE
SET enable_seqscan = off
SET enable_bitmapscan = off
SET enable_hashjoin = off
SET enable_mergejoin = off
SET jit = off
AS $$
    WITH me AS MATERIALIZED (
        SELECT
            q.*, l.max_running, pace.seconds,
            t.running AS tenant_running, t.served_at AS tenant_served,
            p.running AS project_running, p.served_at AS project_served,
            n.running AS notebook_running, n.served_at AS notebook_served
        FROM execution_queue AS q
        JOIN queue_share AS t ON t.level = 1 AND t.tenant_id = q.tenant_id
            AND t.kernel_type = q.kernel_type AND t.priority = q.priority
        JOIN queue_share AS p ON p.level = 2 AND p.tenant_id = q.tenant_id
            AND p.project_id = q.project_id
            AND p.kernel_type = q.kernel_type AND p.priority = q.priority
        JOIN queue_share AS n ON n.level = 3 AND n.tenant_id = q.tenant_id
            AND n.project_id = q.project_id AND n.notebook_id = q.notebook_id
            AND n.kernel_type = q.kernel_type AND n.priority = q.priority
        LEFT JOIN notebook_run_limit AS l ON l.notebook_id = q.notebook_id
        LEFT JOIN queue_pace AS pace ON pace.kernel_type = q.kernel_type
        WHERE q.execution_id = run AND q.state = 'waiting'
    ), in_notebook AS MATERIALIZED (
        SELECT me.*, 1 + (
            SELECT count(*) FROM (
                SELECT FROM execution_queue AS o
                WHERE o.state = 'waiting' AND o.notebook_id = me.notebook_id
                    AND o.kernel_type = me.kernel_type AND o.priority = me.priority
                    AND (o.requested_at, o.execution_id) < (me.requested_at, me.execution_id)
                LIMIT 1000
            ) AS older
        ) AS nth
        FROM me
    ), in_project AS MATERIALIZED (
        SELECT me.*, nth + coalesce((
            SELECT sum(greatest(0, least(o.waiting, nth - 1 + me.notebook_running - o.running + CASE
                WHEN o.running = me.notebook_running THEN
                    (o.served_at, o.id) < (me.notebook_served, me.notebook_id)
                ELSE o.running > me.notebook_running
            END::integer)))
            FROM (
                SELECT s.waiting, s.running, s.served_at, s.notebook_id AS id FROM queue_share AS s
                WHERE s.level = 3 AND s.waiting > 0 AND s.kernel_type = me.kernel_type
                    AND s.priority = me.priority
                    AND s.tenant_id = me.tenant_id AND s.project_id = me.project_id
                    AND s.notebook_id <> me.notebook_id
                ORDER BY s.running, s.served_at, s.notebook_id LIMIT 1000
            ) AS o
        ), 0) AS nth_of_project
        FROM in_notebook AS me
    ), in_tenant AS MATERIALIZED (
        SELECT me.*, nth_of_project + coalesce((
            SELECT sum(greatest(0, least(
                o.waiting, nth_of_project - 1 + me.project_running - o.running
                + CASE
                WHEN o.running = me.project_running THEN
                    (o.served_at, o.id) < (me.project_served, me.project_id)
                ELSE o.running > me.project_running
            END::integer)))
            FROM (
                SELECT s.waiting, s.running, s.served_at, s.project_id AS id FROM queue_share AS s
                WHERE s.level = 2 AND s.waiting > 0 AND s.kernel_type = me.kernel_type
                    AND s.priority = me.priority
                    AND s.tenant_id = me.tenant_id
                    AND s.project_id <> me.project_id
                ORDER BY s.running, s.served_at, s.project_id LIMIT 1000
            ) AS o
        ), 0) AS nth_of_tenant
        FROM in_project AS me
    )
    SELECT
        least(1000, nth_of_tenant + coalesce((
            SELECT sum(greatest(0, least(
                o.waiting, nth_of_tenant - 1 + me.tenant_running - o.running
                + CASE
                WHEN o.running = me.tenant_running THEN
                    (o.served_at, o.id) < (me.tenant_served, me.tenant_id)
                ELSE o.running > me.tenant_running
            END::integer)))
            FROM (
                SELECT s.waiting, s.running, s.served_at, s.tenant_id AS id FROM queue_share AS s
                WHERE s.level = 1 AND s.waiting > 0 AND s.kernel_type = me.kernel_type
                    AND s.priority = me.priority
                    AND s.tenant_id <> me.tenant_id
                ORDER BY s.running, s.served_at, s.tenant_id LIMIT 1000
            ) AS o
        ), 0))::integer AS position,
        me.since, me.kernel_type, me.seconds,
        (SELECT count(*) FROM execution_queue AS c
         WHERE c.state = 'claimed' AND c.kernel_type = me.kernel_type)::integer AS running,
        CASE
            WHEN running_runs(3, me.tenant_id, me.project_id, me.notebook_id) >= me.max_running
                THEN 'notebookLimit'
            WHEN running_runs(2, me.tenant_id, me.project_id) >= project_limit THEN 'projectLimit'
            WHEN running_runs(1, me.tenant_id) >= tenant_limit THEN 'tenantLimit'
        END AS held_by
    FROM in_tenant AS me
$$;

-- Which appends of a batch come to a limit: their numbers, each with a code below zero. Claims are
-- held to how many runs are claimed already: -1 of the tenant, -2 of the project, -3 of the
-- notebook; requests to how many wait already: -4 of the tenant, -5 of the project. The narrowest
-- limit is told. Those before it in the batch count, too, unless they come to a limit or are in
-- excluded.
CREATE FUNCTION beyond_limits_of_batch(
    tenants uuid[], projects uuid[], notebooks uuid[], states text[], kernel_types text[],
    tenant_limits integer[], project_limits integer[], excluded integer[],
    OUT numbers integer[], OUT codes integer[]
)
LANGUAGE sql VOLATILE
SET enable_seqscan = off
SET jit = off
AS $$
    WITH asked AS (
        SELECT e.* FROM unnest(
            tenants, projects, notebooks, states, kernel_types, tenant_limits, project_limits
        ) WITH ORDINALITY AS e (
            tenant_id, project_id, notebook_id, state, kernel_type, tenant_limit, project_limit, i
        )
        -- Who waits again, after an attempt, was let in already.
        WHERE (e.state = 'claimed' OR (e.state = 'waiting' AND e.kernel_type IS NOT NULL))
            AND e.i <> ALL (excluded)
    ), of_notebook AS (
        SELECT a.*, a.state = 'claimed' AND (
            SELECT running_runs(3, a.tenant_id, a.project_id, a.notebook_id) + a.nth > l.max_running
            FROM notebook_run_limit AS l WHERE l.notebook_id = a.notebook_id
        ) IS TRUE AS beyond
        FROM (
            SELECT *, row_number() OVER (PARTITION BY state, notebook_id ORDER BY i) AS nth
            FROM asked
        ) AS a
    ), of_project AS (
        SELECT a.*, (a.project_limit < (
            SELECT coalesce(sum(CASE a.state WHEN 'claimed' THEN s.running ELSE s.waiting END), 0)
            FROM queue_share AS s
            WHERE s.level = 2 AND s.tenant_id = a.tenant_id AND s.project_id = a.project_id
        ) + a.nth_of_project) IS TRUE AS beyond_project
        FROM (
            SELECT *, row_number() OVER (
                PARTITION BY state, tenant_id, project_id ORDER BY i
            ) AS nth_of_project
            FROM of_notebook WHERE NOT beyond
        ) AS a
    ), of_tenant AS (
        SELECT a.*, (a.tenant_limit < (
            SELECT coalesce(sum(CASE a.state WHEN 'claimed' THEN s.running ELSE s.waiting END), 0)
            FROM queue_share AS s WHERE s.level = 1 AND s.tenant_id = a.tenant_id
        ) + a.nth_of_tenant) IS TRUE AS beyond_tenant
        FROM (
            SELECT *, row_number() OVER (PARTITION BY state, tenant_id ORDER BY i) AS nth_of_tenant
            FROM of_project WHERE NOT beyond_project
        ) AS a
    ), found AS (
        SELECT i, -3 AS code FROM of_notebook WHERE beyond
        UNION ALL
        SELECT i, CASE state WHEN 'claimed' THEN -2 ELSE -5 END FROM of_project WHERE beyond_project
        UNION ALL
        SELECT i, CASE state WHEN 'claimed' THEN -1 ELSE -4 END FROM of_tenant WHERE beyond_tenant
    )
    SELECT
        coalesce(array_agg(f.i::integer ORDER BY f.i), '{}'),
        coalesce(array_agg(f.code ORDER BY f.i), '{}')
    FROM found AS f
$$;

-- The same. Nearly always it is one append, for which a few look-ups do.
CREATE FUNCTION beyond_limits(
    tenants uuid[], projects uuid[], notebooks uuid[], states text[], kernel_types text[],
    tenant_limits integer[], project_limits integer[], excluded integer[],
    OUT numbers integer[], OUT codes integer[]
)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    most integer;
    waits bigint;
    code integer;
BEGIN
    IF cardinality(states) > 1 THEN
        SELECT * INTO numbers, codes FROM beyond_limits_of_batch(
            tenants, projects, notebooks, states, kernel_types, tenant_limits, project_limits,
            excluded
        );
        RETURN;
    END IF;
    numbers := '{}';
    codes := '{}';
    IF cardinality(excluded) > 0 THEN
        RETURN;
    END IF;
    IF states[1] = 'claimed' THEN
        SELECT l.max_running INTO most FROM notebook_run_limit AS l
        WHERE l.notebook_id = notebooks[1];
        IF running_runs(3, tenants[1], projects[1], notebooks[1]) >= most THEN
            code := -3;
        ELSIF running_runs(2, tenants[1], projects[1]) >= project_limits[1] THEN
            code := -2;
        ELSIF running_runs(1, tenants[1]) >= tenant_limits[1] THEN
            code := -1;
        END IF;
    ELSIF states[1] = 'waiting' AND kernel_types[1] IS NOT NULL THEN
        SELECT sum(s.waiting) INTO waits FROM queue_share AS s
        WHERE s.level = 2 AND s.tenant_id = tenants[1] AND s.project_id = projects[1];
        IF waits >= project_limits[1] THEN
            code := -5;
        ELSE
            SELECT sum(s.waiting) INTO waits FROM queue_share AS s
            WHERE s.level = 1 AND s.tenant_id = tenants[1];
            IF waits >= tenant_limits[1] THEN
                code := -4;
            END IF;
        END IF;
    END IF;
    IF code IS NOT NULL THEN
        numbers := ARRAY[1];
        codes := ARRAY[code];
    END IF;
END
$$;

CREATE FUNCTION keep_notebook_limits(
    notebooks uuid[], notebook_limits integer[], refused integer[]
) RETURNS void
LANGUAGE sql VOLATILE
SET enable_seqscan = off
AS $$
    DELETE FROM notebook_run_limit AS l
    USING unnest(notebooks, notebook_limits) WITH ORDINALITY AS a (notebook_id, most, i)
    WHERE l.notebook_id = a.notebook_id AND a.most = 0 AND a.i <> ALL (coalesce(refused, '{}'));
    INSERT INTO notebook_run_limit (notebook_id, max_running)
    SELECT a.notebook_id, a.most
    FROM unnest(notebooks, notebook_limits) WITH ORDINALITY AS a (notebook_id, most, i)
    WHERE a.most > 0 AND a.i <> ALL (coalesce(refused, '{}'))
    ON CONFLICT (notebook_id) DO UPDATE SET max_running = excluded.max_running
$$;

-- Forgets shares without runs that were served long ago: they would come first in any case.
CREATE FUNCTION forget_shares(seconds double precision) RETURNS void
LANGUAGE sql VOLATILE
AS $$
    DELETE FROM queue_share
    WHERE waiting = 0 AND running = 0
        AND served_at < clock_timestamp() - make_interval(secs => seconds)
$$;

-- The function that appends, with the limits: an element per append, all NULL where none has
-- any. Of a request they bound what waits already, of a claim what runs already; notebook_limits
-- are to be kept: 0 is none, NULL is no change. They have a default: a caller that does not know
-- them is held to the limits of notebooks.
DROP FUNCTION append_events;
CREATE FUNCTION append_events(
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
