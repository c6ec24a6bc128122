-- What an operator wants to know of projections: how fast each has been, and what is built anew.

-- Where a consumer of events was at times of the last minute and a bit, the newest first: at most one
-- entry for every five seconds. `marks[i]` is the position before the move at `marks_at[i]`.
ALTER TABLE projection_checkpoint
    ADD COLUMN marks_at timestamptz[] NOT NULL DEFAULT '{}',
    ADD COLUMN marks bigint[] NOT NULL DEFAULT '{}';

-- Projections that are built anew beside those in use. A row whose builder has died is left; whether
-- it lives the lock tells that it holds.
CREATE TABLE projection_rebuild (
    name text PRIMARY KEY,
    purpose text NOT NULL,             -- rebuild, or verify: then it takes nobody's place
    phase text NOT NULL,
    position bigint NOT NULL,          -- of the last event folded
    target bigint NOT NULL,            -- to be reached, as far as known
    per_second double precision,       -- events, lately
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
