-- A statement that goes on for long holds up the index on event below, and that all appends behind
-- it: rather the migration fails and is run again.
SET LOCAL lock_timeout = '30s';

-- The executions of a project as a list with a filter sees them: few columns, so that a page of
-- rows holds many, and an index for each field in the order of the list. They are kept with the
-- statuses of executions, in one transaction, so that a list never shows what its filter denies.
CREATE TABLE execution_list (
    execution_id uuid PRIMARY KEY,
    notebook_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    project_id uuid NOT NULL,
    requested_at timestamptz NOT NULL,  -- to the millisecond, as are the others
    requested_position bigint NOT NULL,
    status text NOT NULL,
    phase text,                         -- until it has ended
    termination_code text,              -- once it has
    requested_by text NOT NULL,
    cause text NOT NULL,
    started_at timestamptz,             -- when a worker last took it; NULL while it waits
    ended_at timestamptz,
    tags text[] NOT NULL
);

CREATE INDEX ON execution_list (tenant_id, project_id, requested_at, requested_position);
CREATE INDEX ON execution_list (tenant_id, project_id, status, requested_at, requested_position);
CREATE INDEX ON execution_list (tenant_id, project_id, phase, requested_at, requested_position)
    WHERE phase IS NOT NULL;
CREATE INDEX ON execution_list
    (tenant_id, project_id, termination_code, requested_at, requested_position)
    WHERE termination_code IS NOT NULL;
CREATE INDEX ON execution_list
    (tenant_id, project_id, requested_by, requested_at, requested_position);
CREATE INDEX ON execution_list (tenant_id, project_id, cause, requested_at, requested_position);
CREATE INDEX ON execution_list
    (notebook_id, tenant_id, project_id, requested_at, requested_position);
CREATE INDEX ON execution_list (tenant_id, project_id, started_at) WHERE started_at IS NOT NULL;
CREATE INDEX ON execution_list (tenant_id, project_id, ended_at) WHERE ended_at IS NOT NULL;

-- The same for each tag of an execution, in the order of the list.
CREATE TABLE execution_tag (
    execution_id uuid NOT NULL,
    notebook_id uuid NOT NULL,
    tenant_id uuid NOT NULL,
    project_id uuid NOT NULL,
    requested_at timestamptz NOT NULL,
    requested_position bigint NOT NULL,
    tag text NOT NULL,
    PRIMARY KEY (tenant_id, project_id, tag, requested_at, requested_position)
);

CREATE INDEX ON execution_tag (notebook_id);

-- Both are folded from the events by the projection of statuses, from its first event.
TRUNCATE execution_status, notebook_duration;

UPDATE projection_checkpoint SET position = 0, generation = generation + 1
WHERE name = 'execution_status';

-- What is done to many executions at once, as the API shows it.
CREATE TABLE execution_action (
    action_id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    project_id uuid NOT NULL,
    created_position bigint NOT NULL,
    position bigint NOT NULL,
    version integer NOT NULL,
    modified_at timestamptz NOT NULL,
    document json NOT NULL,
    item json NOT NULL
);

CREATE INDEX ON execution_action (tenant_id, project_id, created_position);

-- Few: which actions there are, in order, for whoever carries them out.
CREATE INDEX event_action_requested ON event (position) WHERE type = 'action.requested.v1';
