-- A log for each tenant, in which the sealer enters every event, in order of positions.

-- The hashes of the log's tree, as C2SP tlog-tiles has them: 32 bytes each, up to 256 in a row. A
-- tile only grows; what a smaller tree has of it is its beginning.
CREATE TABLE log_tile (
    tenant_id uuid NOT NULL,
    level smallint NOT NULL,
    index bigint NOT NULL,
    hashes bytea NOT NULL,
    CONSTRAINT log_tile_pkey PRIMARY KEY (tenant_id, level, index)
);
-- Hashes cannot be compressed; nobody is to try.
ALTER TABLE log_tile ALTER COLUMN hashes SET STORAGE EXTERNAL;

-- Which events are the entries of a tile of level 0. The entries themselves are made of the events.
CREATE TABLE log_bundle (
    tenant_id uuid NOT NULL,
    index bigint NOT NULL,
    first_position bigint NOT NULL,
    positions bigint[] NOT NULL,
    CONSTRAINT log_bundle_pkey PRIMARY KEY (tenant_id, index),
    CONSTRAINT log_bundle_first UNIQUE (tenant_id, first_position)
);

-- `size`: so many entries are in the log; `signed_size`: so many are in its last checkpoint.
CREATE TABLE transparency_log (
    tenant_id uuid NOT NULL,
    size bigint NOT NULL,
    signed_size bigint NOT NULL DEFAULT 0,
    CONSTRAINT transparency_log_pkey PRIMARY KEY (tenant_id)
);

CREATE INDEX transparency_log_unsigned ON transparency_log (tenant_id) WHERE size > signed_size;

-- Every checkpoint that was signed: a signed note, as C2SP tlog-checkpoint has it.
CREATE TABLE log_checkpoint (
    tenant_id uuid NOT NULL,
    size bigint NOT NULL,
    note text NOT NULL,
    signed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT log_checkpoint_pkey PRIMARY KEY (tenant_id, size)
);

-- Which keys sign, under which origins: the public half, which the private one is not told by. The
-- one that was used last is the one in use.
CREATE TABLE log_key (
    origin text NOT NULL,
    public_key bytea NOT NULL,
    used_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT log_key_pkey PRIMARY KEY (origin, public_key)
);
