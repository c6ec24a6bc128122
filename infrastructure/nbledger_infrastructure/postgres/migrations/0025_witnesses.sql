-- Witnesses cosign checkpoints of logs.

-- Lines of signatures that belong below the note, one of each witness.
ALTER TABLE log_checkpoint ADD COLUMN cosignatures text NOT NULL DEFAULT '';

-- The largest checkpoint that a quorum of witnesses has cosigned, and as of when; 0 where none is.
ALTER TABLE transparency_log
    ADD COLUMN witnessed_size bigint NOT NULL DEFAULT 0,
    ADD COLUMN witnessed_at timestamptz;

-- What each witness, named by its key, has of each log: how many entries it has cosigned last and
-- when it says it did, when it was asked last, and what was wrong then.
CREATE TABLE log_witness (
    tenant_id uuid NOT NULL,
    witness text NOT NULL,
    size bigint NOT NULL DEFAULT 0,
    cosigned_at timestamptz,
    asked_at timestamptz NOT NULL,
    problem text NOT NULL DEFAULT '',
    CONSTRAINT log_witness_pkey PRIMARY KEY (tenant_id, witness)
);

-- Which witnesses cosign, and how many are needed: a policy (C2SP tlog-policy) without logs, in one
-- row. Checkpoints that lack the quorum are held back up to the maximum age of one that has it.
CREATE TABLE log_policy (
    one boolean NOT NULL DEFAULT true CHECK (one),
    policy text NOT NULL,
    maximum_age_seconds integer NOT NULL,
    CONSTRAINT log_policy_pkey PRIMARY KEY (one)
);
