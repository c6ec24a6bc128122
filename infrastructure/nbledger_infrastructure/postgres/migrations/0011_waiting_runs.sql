-- What the sweeper and idle workers look for is found by an index of its own, however many runs
-- wait: waiting runs by what may take them, the oldest first, and the few that a worker has taken.

DO $$
DECLARE
    replaced regclass;
BEGIN
    -- A rebuild may have given it another name.
    FOR replaced IN
        SELECT indexrelid::regclass FROM pg_index
        WHERE indrelid = 'execution_status'::regclass
            AND pg_get_indexdef(indexrelid) LIKE '%(priority, requested_at, execution_id)%'
    LOOP
        EXECUTE format('DROP INDEX %s', replaced);
    END LOOP;
END
$$;

CREATE INDEX ON execution_status (kernel_type, priority, requested_at, execution_id)
    WHERE NOT ended AND phase = 'Queued';
CREATE INDEX ON execution_status (execution_id) WHERE NOT ended AND phase <> 'Queued';

-- Each topic of commands as the broker had it when its commands were last published. A topic with
-- another id has been made anew and is empty: what waits is published again, once, and the row
-- says how far that has come.
CREATE TABLE command_topic (
    topic text PRIMARY KEY,
    topic_id uuid NOT NULL,
    begun_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    through bigint NOT NULL,               -- events after this position are the relay's to publish
    requested_at timestamptz NOT NULL DEFAULT '1970-01-01Z',  -- the last run published again
    execution_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    done boolean NOT NULL DEFAULT false
);

-- The topic of events as the broker had it, with the next offset of each of its partitions: what is
-- published to one that was made anew goes on above them.
CREATE TABLE event_topic (
    topic text PRIMARY KEY,
    topic_id uuid NOT NULL,
    next_offsets bigint[] NOT NULL
);
