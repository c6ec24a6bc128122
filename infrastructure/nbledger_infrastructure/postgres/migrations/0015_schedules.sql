-- Schedules as the scheduler works with them: folded from events, in the same transaction as its
-- place among them, so that they can be made anew from these at any time.

CREATE TABLE schedule (
    schedule_id uuid PRIMARY KEY,
    notebook_id uuid NOT NULL UNIQUE,
    tenant_id uuid NOT NULL,
    project_id uuid NOT NULL,
    settings json NOT NULL,
    set_by text NOT NULL,
    state text NOT NULL CHECK (state IN ('active', 'paused', 'ended', 'removed')),
    cursor timestamptz NOT NULL,     -- every time up to here is dealt with
    skip_through timestamptz,        -- what was due up to here came while it was paused
    fires_at timestamptz,            -- when it fires next; NULL: never again, or not as it is
    runs integer NOT NULL,           -- firings that have run, other than on request
    failures integer NOT NULL,       -- runs that have failed since the last that has not
    failing boolean NOT NULL,        -- so many that it is to be paused
    overlap text NOT NULL            -- as the settings have it
);

CREATE INDEX ON schedule (fires_at) WHERE state = 'active';
-- Few: what has ended and is not told yet, and what has failed too often.
CREATE INDEX ON schedule (schedule_id) WHERE state = 'active' AND fires_at IS NULL;
CREATE INDEX ON schedule (schedule_id) WHERE state = 'active' AND failing;

-- Firings that are not over: asked for and not decided on, waiting for an earlier run, with a run
-- that is yet to be recorded, or running.
CREATE TABLE schedule_run (
    firing_id uuid PRIMARY KEY,
    schedule_id uuid NOT NULL REFERENCES schedule ON DELETE CASCADE,
    due_at timestamptz NOT NULL,
    trigger text NOT NULL CHECK (trigger IN ('due', 'manual', 'backfill')),
    state text NOT NULL CHECK (state IN ('asked', 'queued', 'starting', 'running')),
    execution_id uuid NOT NULL,
    notebook_version integer,        -- of the notebook's stream, once it is started
    asked_by text,                   -- who asked for it, where that is not the schedule
    position bigint NOT NULL         -- of the event that made it so
);

CREATE INDEX ON schedule_run (schedule_id, state);
CREATE INDEX ON schedule_run (execution_id);
CREATE INDEX ON schedule_run (state, position) WHERE state IN ('asked', 'queued', 'starting');

-- Schedules and their firings as the API lists them.
CREATE TABLE schedule_list (
    schedule_id uuid PRIMARY KEY,
    notebook_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    project_id uuid NOT NULL,
    created_position bigint NOT NULL,
    position bigint NOT NULL,
    state text NOT NULL,
    settings json NOT NULL
);

CREATE INDEX ON schedule_list (tenant_id, project_id, created_position);
CREATE INDEX ON schedule_list (notebook_id);

CREATE TABLE schedule_firing (
    firing_id uuid PRIMARY KEY,
    notebook_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    project_id uuid NOT NULL,
    position bigint NOT NULL,
    execution_id uuid,
    document json NOT NULL
);

CREATE INDEX ON schedule_firing (notebook_id, position);
