-- What notices are decided by: folded from events, in the same transaction as the place of whoever
-- tells them, so that it can be made anew from these at any time.

-- How long completed runs of a notebook took, from their claim to their end.
CREATE TABLE usual_duration (
    notebook_id uuid PRIMARY KEY,
    runs json NOT NULL,              -- seconds, the latest last, by the range of cells
    least_high double precision      -- the least upper end of a middle half; NULL: none is known
) WITH (fillfactor = 70);

-- Schedules whose last run has failed: the series of failures that it ends.
CREATE TABLE failing_schedule (
    schedule_id uuid PRIMARY KEY,
    notebook_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    project_id uuid NOT NULL,
    failures integer NOT NULL,
    needed integer NOT NULL,         -- so many are told; 0: never
    since timestamptz NOT NULL,      -- when the first of them ended
    first_execution_id uuid NOT NULL,
    last_execution_id uuid NOT NULL,
    termination_code text NOT NULL,  -- of the last one
    told boolean NOT NULL
);

CREATE INDEX ON failing_schedule (notebook_id);
-- Few: what is to be told.
CREATE INDEX ON failing_schedule (schedule_id) WHERE NOT told AND needed > 0 AND failures >= needed;

-- Kernel types that projects were told to be without workers, until they are told that it is over.
CREATE TABLE kernel_outage (
    notice_id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    project_id uuid NOT NULL,
    kernel_type text NOT NULL,
    since timestamptz NOT NULL,
    UNIQUE (kernel_type, tenant_id, project_id)
);

-- Notices as the API lists them; what is told of a kernel type is one row for each outage.
CREATE TABLE notice_list (
    told_id uuid PRIMARY KEY,
    subject_id uuid NOT NULL,        -- the notebook that it concerns, or the notice's own stream
    tenant_id uuid NOT NULL,
    project_id uuid NOT NULL,
    position bigint NOT NULL,        -- of the event that told it
    kind text NOT NULL,
    document json NOT NULL
);

CREATE INDEX ON notice_list (tenant_id, project_id, position);
CREATE INDEX ON notice_list (tenant_id, project_id, kind, position);
CREATE INDEX ON notice_list (subject_id, position);
