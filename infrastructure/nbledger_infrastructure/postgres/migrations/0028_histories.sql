-- Reading all events of a project or tenant in order, and those that tell who has read a history.
SET LOCAL lock_timeout = '30s';

-- The indexes may have been made before, concurrently. One whose making failed or goes on is there
-- and of no use: it is not to be taken for a good one.
DO $$
DECLARE
    unfinished text;
BEGIN
    SELECT string_agg(indexrelid::regclass::text, ', ') INTO unfinished
    FROM pg_index WHERE indrelid = 'event'::regclass AND NOT indisvalid;
    IF unfinished IS NOT NULL THEN
        RAISE EXCEPTION 'invalid indexes on table event: %', unfinished
            USING HINT = 'Wait until they are made, or drop those whose making failed.';
    END IF;
END
$$;

CREATE INDEX IF NOT EXISTS event_project_position ON event (tenant_id, project_id, position);

CREATE INDEX IF NOT EXISTS event_tenant_position ON event (tenant_id, position);

-- These are few: the index holds no others, and costs the append of others nothing.
CREATE INDEX IF NOT EXISTS event_history_read ON event (tenant_id, position)
WHERE type = 'history.read.v1';
