-- What each of the consumers keeps in PostgreSQL. Apply it once: psql "$DATABASE_URL" -f schema.sql

-- How far a consumer is. The row moves in the transaction that has the effects of the events: what
-- is at or below `position` has been dealt with, once, and nothing above it.
CREATE TABLE IF NOT EXISTS consumer (
    name text PRIMARY KEY,
    position bigint NOT NULL,
    -- Where to go on in each partition: a hint that saves reading, and nothing that counts.
    offsets jsonb NOT NULL DEFAULT '{}'
);

-- Records that cannot be dealt with, for a person to look at. The consumer goes on without them.
CREATE TABLE IF NOT EXISTS dead_letter (
    consumer text NOT NULL,
    place text NOT NULL, -- a position, or a place on the topic where the record names none
    fault text NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, place)
);

-- The effects: put your own tables and your own `handle` in their place. A counter and a log
-- without a key show an event that is dealt with twice, or not at all.
CREATE TABLE IF NOT EXISTS run (
    execution_id uuid PRIMARY KEY,
    notebook_id uuid NOT NULL,
    status text NOT NULL,
    cells integer NOT NULL DEFAULT 0,
    cell_seconds double precision NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS run_count (
    status text PRIMARY KEY,
    runs bigint NOT NULL
);
CREATE TABLE IF NOT EXISTS run_log (
    position bigint NOT NULL,
    type text NOT NULL,
    execution_id uuid NOT NULL,
    at timestamptz NOT NULL
);
