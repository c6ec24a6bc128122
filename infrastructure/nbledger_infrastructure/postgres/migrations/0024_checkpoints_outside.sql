-- Checkpoints leave the house: what keeps them elsewhere, and who says when they were there.

-- When the log was last found to be what was signed of it, whether it had grown or not; null for
-- those that no sealer of this version has seen. `renewal` asks for that to be done soon.
ALTER TABLE transparency_log
    ADD COLUMN confirmed_at timestamptz, ADD COLUMN renewal boolean NOT NULL DEFAULT false;
-- All logs are looked at now, as those that do not grow are confirmed now and then.
DROP INDEX transparency_log_unsigned;

-- How far an outlet has each log, such as the topic of checkpoints. `place` says which one it is:
-- what takes its place later, under the same name, begins anew.
CREATE TABLE log_delivery (
    outlet text NOT NULL,
    tenant_id uuid NOT NULL,
    place text NOT NULL,
    size bigint NOT NULL,
    confirmed_at timestamptz NOT NULL,
    delivered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT log_delivery_pkey PRIMARY KEY (outlet, tenant_id)
);

-- Timestamps (RFC 3161) of the text of a checkpoint: the answer of the authority, in DER, and the
-- time that it tells.
CREATE TABLE log_timestamp (
    tenant_id uuid NOT NULL,
    stamped_at timestamptz NOT NULL,
    size bigint NOT NULL,
    response bytea NOT NULL,
    CONSTRAINT log_timestamp_pkey PRIMARY KEY (tenant_id, stamped_at, size)
);
