-- Events that are published again on request: what was asked for, and how far it is.
CREATE TABLE event_replay (
    replay_id uuid PRIMARY KEY,
    topic text NOT NULL,
    first_position bigint NOT NULL,
    last_position bigint NOT NULL,
    to_the_end boolean NOT NULL,        -- no end was asked for: last_position was the head
    tenant_id uuid,                     -- null: of all tenants
    project_id uuid,                    -- null: of all projects
    requested_by text NOT NULL,         -- a principal, or whoever runs the command
    by_command boolean NOT NULL,        -- carried out by the command itself, not by the relay
    state text NOT NULL DEFAULT 'waiting'
        CHECK (state IN ('waiting', 'running', 'completed', 'cancelled', 'failed')),
    position bigint NOT NULL,           -- the broker has everything up to here
    published bigint NOT NULL DEFAULT 0,
    topic_id uuid,                      -- of the topic that has it: another one is empty
    restarts integer NOT NULL DEFAULT 0,
    problem text,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz
);

-- Statistics would keep ids of principals that are erased elsewhere.
ALTER TABLE event_replay ALTER requested_by SET STATISTICS 0;

CREATE INDEX event_replay_open ON event_replay (requested_at)
WHERE state IN ('waiting', 'running');
CREATE INDEX event_replay_project ON event_replay (tenant_id, project_id, requested_at);
