-- What read models held at earlier positions, so that the past is told without folding all of it.
--
-- The projection of the read model writes them with its rows, a rebuild makes them anew with the
-- read model, and they go with what they are of. `state` is the whole row as it was after the event
-- at `position`.

SET LOCAL lock_timeout = '30s';

CREATE TABLE notebook_snapshot (
    notebook_id uuid NOT NULL,
    position bigint NOT NULL,
    state json NOT NULL,
    PRIMARY KEY (notebook_id, position)
);

CREATE TABLE execution_snapshot (
    execution_id uuid NOT NULL,
    position bigint NOT NULL,
    notebook_id uuid NOT NULL,
    state json NOT NULL,
    PRIMARY KEY (execution_id, position)
);

CREATE INDEX ON execution_snapshot (notebook_id);

CREATE TABLE dataset_snapshot (
    dataset_id uuid NOT NULL,
    position bigint NOT NULL,
    state json NOT NULL,
    PRIMARY KEY (dataset_id, position)
);

-- How much more of events, by their size, is folded before the next snapshot is taken. Of what is
-- there already the first one is still to come; a rebuild makes those that are missing.
ALTER TABLE notebook_details ADD COLUMN until_snapshot bigint NOT NULL DEFAULT 49152;
ALTER TABLE execution_status ADD COLUMN until_snapshot bigint NOT NULL DEFAULT 49152;
ALTER TABLE dataset_details ADD COLUMN until_snapshot bigint NOT NULL DEFAULT 49152;
ALTER TABLE notebook_details ALTER COLUMN until_snapshot DROP DEFAULT;
ALTER TABLE execution_status ALTER COLUMN until_snapshot DROP DEFAULT;
ALTER TABLE dataset_details ALTER COLUMN until_snapshot DROP DEFAULT;
