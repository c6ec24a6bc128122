-- Automatic execution, as its process manager works with it: folded from events, in the same
-- transaction as its place among them, so that it can be made anew from these at any time.

-- Notebooks whose autoExecution is on.
CREATE TABLE automation (
    notebook_id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    project_id uuid NOT NULL,
    settings json NOT NULL,
    set_by text NOT NULL,
    dataset_id uuid,          -- the bound dataset, where its new versions start runs
    started_at timestamptz    -- when the last run was started
);

CREATE INDEX ON automation (dataset_id) WHERE dataset_id IS NOT NULL;

-- Triggers that are not over: changes that are being gathered, or that nothing becomes of and that
-- is yet to be told, and those with a run that is yet to be recorded, or goes on.
CREATE TABLE automation_trigger (
    trigger_id uuid PRIMARY KEY,
    notebook_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    project_id uuid NOT NULL,
    set_by text NOT NULL,
    state text NOT NULL CHECK (state IN ('gathering', 'skipping', 'starting', 'running')),
    changes json NOT NULL,
    execution_id uuid NOT NULL,
    reason text,              -- why nothing becomes of it
    due_at timestamptz,       -- when it becomes a run; NULL: when the run before it has ended
    held boolean NOT NULL,    -- put off, as too many runs wait
    notebook_version integer  -- of the notebook's stream, once it is started
);

CREATE UNIQUE INDEX ON automation_trigger (notebook_id) WHERE state = 'gathering';
CREATE INDEX ON automation_trigger (notebook_id);
CREATE INDEX ON automation_trigger (due_at) WHERE state = 'gathering' AND due_at IS NOT NULL;
CREATE INDEX ON automation_trigger (state) WHERE state IN ('skipping', 'starting');

-- What was changed before there was automatic execution starts nothing.
CREATE TABLE automation_since (position bigint NOT NULL);
INSERT INTO automation_since (position) SELECT coalesce(max(position), 0) FROM event;

-- What became of changes, as the API lists it.
CREATE TABLE trigger_list (
    trigger_id uuid PRIMARY KEY,
    notebook_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    project_id uuid NOT NULL,
    position bigint NOT NULL,
    execution_id uuid,
    document json NOT NULL
);

CREATE INDEX ON trigger_list (notebook_id, position);
