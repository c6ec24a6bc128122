-- Kernel workers and what each of them is running. Times are the database's, so that no two
-- machines need agree on the time.

CREATE TABLE worker (
    worker_id  text        PRIMARY KEY,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    offers     json        NOT NULL,   -- the kernel types it can run, a JSON array
    capacity   integer     NOT NULL CHECK (capacity > 0)
);

-- Who is running an execution, and until when it may without saying so again. A hint for
-- recovery only: who holds an execution is decided by the epoch in its events.
CREATE TABLE execution_lease (
    execution_id uuid        PRIMARY KEY,
    epoch        integer     NOT NULL,
    worker_id    text        NOT NULL,
    expires_at   timestamptz NOT NULL
);

CREATE INDEX execution_lease_expires ON execution_lease (expires_at);
