-- What waits for a worker is looked up by kernel type and priority, the oldest first.

ALTER TABLE execution_status ADD COLUMN priority text NOT NULL DEFAULT 'Normal';

CREATE INDEX ON execution_status (priority, requested_at, execution_id) WHERE NOT ended;
