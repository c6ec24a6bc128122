-- When a sweeper could last reach the database, by the database's own clock. A lease can only run
-- out against its worker while workers can renew: after a gap in these signs of life, a restart of
-- the server or a jump of its clock, every lease is good until grace_until.

CREATE TABLE lease_watch (
    one               boolean     PRIMARY KEY DEFAULT true CHECK (one),
    seen_at           timestamptz NOT NULL,
    server_started_at timestamptz NOT NULL,
    grace_until       timestamptz NOT NULL
);
