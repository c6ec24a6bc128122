-- Reading all events of a project in order, and those that tell who has read a history.
SET LOCAL lock_timeout = '30s';

CREATE INDEX event_project_position ON event (tenant_id, project_id, position);

-- These are few: the index holds no others, and costs the append of others nothing.
CREATE INDEX event_history_read ON event (tenant_id, position) WHERE type = 'history.read.v1';
