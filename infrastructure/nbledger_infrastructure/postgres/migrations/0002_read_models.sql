-- Read models: tables folded from the events, which can be dropped and folded again.
--
-- A rebuild makes the tables of a projection anew with LIKE … INCLUDING ALL and puts them in the
-- place of the old ones. So: no foreign keys, no triggers, and no names given to indexes.

-- How far each consumer of the events has come. A projection moves its row in the transaction
-- that writes its tables; `generation` rises when a rebuild replaces them.
CREATE TABLE projection_checkpoint (
    name text PRIMARY KEY,
    position bigint NOT NULL DEFAULT 0,
    generation bigint NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE notebook_details (
    notebook_id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    project_id uuid NOT NULL,
    position bigint NOT NULL,          -- last event of the notebook or its executions folded in
    stream_version integer NOT NULL,   -- last event of the notebook itself
    modified_at timestamptz NOT NULL,
    deletion_requested boolean NOT NULL,
    running integer NOT NULL,          -- executions under way
    document json NOT NULL,            -- what the API answers
    activity json NOT NULL             -- what folding on needs
);

CREATE TABLE notebook_list (
    notebook_id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    project_id uuid NOT NULL,
    ordinal bigint NOT NULL,           -- numbers the notebooks of the project as they are created
    status text NOT NULL,
    kernel_type text NOT NULL,
    enrichment_mode boolean NOT NULL,
    item json NOT NULL,                -- what the API answers
    activity json NOT NULL,            -- what folding on needs
    UNIQUE (tenant_id, project_id, ordinal)
);

CREATE INDEX ON notebook_list
    (tenant_id, project_id, kernel_type, status, enrichment_mode, ordinal);

CREATE TABLE notebook_list_project (
    tenant_id uuid NOT NULL,
    project_id uuid NOT NULL,
    next_ordinal bigint NOT NULL,
    PRIMARY KEY (tenant_id, project_id)
);

-- How many notebooks of each kind there are: in all (level 0), and in every bucket of
-- 16 ^ level consecutive ordinals (levels 1 to 5).
CREATE TABLE notebook_list_count (
    tenant_id uuid NOT NULL,
    project_id uuid NOT NULL,
    level smallint NOT NULL,
    bucket bigint NOT NULL,
    kernel_type text NOT NULL,
    ready integer NOT NULL,
    ready_enriching integer NOT NULL,
    running integer NOT NULL,
    running_enriching integer NOT NULL,
    error integer NOT NULL,
    error_enriching integer NOT NULL,
    kernel_dead integer NOT NULL,
    kernel_dead_enriching integer NOT NULL,
    PRIMARY KEY (tenant_id, project_id, level, bucket, kernel_type)
);

-- One page of the list, newest first, and how many match in all; NULL filters nothing.
--
-- STABLE, so that all of it sees what the calling statement sees. Whichever page is asked for and
-- however many notebooks there are, it reads the counts of at most 16 buckets a level (above
-- 16,000,000 notebooks, more of the highest level) and passes over at most 15 rows of each kind.
CREATE FUNCTION notebook_list_page(
    tenant uuid, project uuid, wanted_status text, wanted_kernel text, wanted_mode boolean,
    skip bigint, take integer,
    OUT total bigint, OUT items json[]
)
LANGUAGE plpgsql STABLE
-- Every step has one good plan, and making it anew would take longer than running it.
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off
SET enable_bitmapscan = off
-- The planner takes a LIMIT that it does not know for a tenth of the table, and would join the 20
-- rows of a page by reading the index from its end.
SET enable_mergejoin = off
SET enable_hashjoin = off
SET jit = off
AS $$
DECLARE
    plain integer := (wanted_mode IS NOT TRUE)::integer;
    enriching integer := (wanted_mode IS NOT FALSE)::integer;
    r integer := (coalesce(wanted_status, 'Ready') = 'Ready')::integer;
    u integer := (coalesce(wanted_status, 'Running') = 'Running')::integer;
    e integer := (coalesce(wanted_status, 'Error') = 'Error')::integer;
    d integer := (coalesce(wanted_status, 'Kernel_Dead') = 'Kernel_Dead')::integer;
    kernels text[];
    parent bigint := 0;
    below bigint := 9223372036854775807;
    passed bigint;
    counted record;
BEGIN
    SELECT coalesce(sum(matching), 0), coalesce(array_agg(kernel_type), '{}')
    INTO total, kernels
    FROM (
        SELECT kernel_type,
            plain * (r * ready + u * running + e * error + d * kernel_dead)
            + enriching * (
                r * ready_enriching + u * running_enriching + e * error_enriching
                + d * kernel_dead_enriching
            ) AS matching
        FROM notebook_list_count
        WHERE tenant_id = tenant AND project_id = project AND level = 0 AND bucket = 0
            AND (wanted_kernel IS NULL OR kernel_type = wanted_kernel)
    ) AS counted
    WHERE matching > 0;

    items := '{}';
    IF skip >= total THEN
        RETURN;
    END IF;

    IF skip >= 16 THEN
        FOR depth IN REVERSE 5..1 LOOP
            -- From the last bucket of the parent backwards, to the one in which the page begins.
            below := CASE depth WHEN 5 THEN 9223372036854775807 ELSE (parent + 1) * 16 END;
            parent := NULL;
            FOR counted IN
                SELECT bucket,
                    plain * (r * ready + u * running + e * error + d * kernel_dead)
                    + enriching * (
                        r * ready_enriching + u * running_enriching + e * error_enriching
                        + d * kernel_dead_enriching
                    ) AS matching
                FROM notebook_list_count
                WHERE tenant_id = tenant AND project_id = project AND level = depth
                    AND bucket < below AND (wanted_kernel IS NULL OR kernel_type = wanted_kernel)
                ORDER BY bucket DESC
            LOOP
                IF counted.bucket IS DISTINCT FROM parent THEN
                    parent := counted.bucket;
                    passed := 0;
                END IF;
                passed := passed + counted.matching;
                skip := skip - counted.matching;
                EXIT WHEN skip < 0;
            END LOOP;
            skip := skip + passed;
        END LOOP;
        below := (parent + 1) * 16;
    END IF;

    IF wanted_status IS NULL AND wanted_kernel IS NULL AND wanted_mode IS NULL THEN
        items := ARRAY(
            SELECT item FROM notebook_list
            WHERE tenant_id = tenant AND project_id = project AND ordinal < below
            ORDER BY ordinal DESC OFFSET skip LIMIT take
        );
    ELSE
        -- The first of each kind, merged; only their ordinals until it is known which are shown.
        items := ARRAY(
            SELECT (
                SELECT item FROM notebook_list
                WHERE tenant_id = tenant AND project_id = project AND ordinal = shown.ordinal
            )
            FROM (
                SELECT kind.ordinal
                FROM unnest(kernels) AS kernel,
                    unnest(CASE WHEN wanted_status IS NULL
                        THEN ARRAY['Ready', 'Running', 'Error', 'Kernel_Dead']
                        ELSE ARRAY[wanted_status] END) AS state,
                    unnest(CASE WHEN wanted_mode IS NULL
                        THEN ARRAY[false, true] ELSE ARRAY[wanted_mode] END) AS mode,
                    LATERAL (
                        SELECT ordinal FROM notebook_list
                        WHERE tenant_id = tenant AND project_id = project
                            AND kernel_type = kernel AND status = state
                            AND enrichment_mode = mode AND ordinal < below
                        ORDER BY ordinal DESC LIMIT skip + take
                    ) AS kind
                ORDER BY kind.ordinal DESC OFFSET skip LIMIT take
            ) AS shown
            ORDER BY shown.ordinal DESC
        );
    END IF;
END
$$;

CREATE TABLE execution_status (
    execution_id uuid PRIMARY KEY,
    notebook_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    project_id uuid NOT NULL,
    position bigint NOT NULL,
    version integer NOT NULL,
    requested_position bigint NOT NULL,
    requested_at timestamptz NOT NULL,  -- recorded, by the clock of the database
    updated_at timestamptz NOT NULL,    -- likewise, of the last event
    started_at timestamptz NOT NULL,    -- accepted, by the clock of the domain
    ended boolean NOT NULL,
    phase text,                         -- Queued, Starting or Executing until it has ended
    kernel_type text NOT NULL,
    epoch integer NOT NULL,             -- number of claims
    document json NOT NULL,             -- what the API answers
    silent json NOT NULL                -- what folding on needs
);

CREATE INDEX ON execution_status (notebook_id, requested_position DESC);
CREATE INDEX ON execution_status (requested_at, execution_id) WHERE NOT ended;

-- Seconds that the last few completed runs of a notebook took, oldest first.
CREATE TABLE notebook_duration (
    notebook_id uuid PRIMARY KEY,
    seconds double precision[] NOT NULL
);

CREATE TABLE execution_results (
    execution_id uuid PRIMARY KEY,
    notebook_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    project_id uuid NOT NULL,
    version integer NOT NULL,
    updated_at timestamptz NOT NULL,
    status text NOT NULL,
    notebook_stream_version integer NOT NULL,
    results json NOT NULL
);

CREATE INDEX ON execution_results (notebook_id);
