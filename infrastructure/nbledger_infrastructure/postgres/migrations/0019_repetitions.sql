-- Which execution one repeats, and what the completed ones covered, so that the repetitions of a
-- run and the last success of a notebook are found without reading its other runs.

ALTER TABLE execution_status
    ADD COLUMN IF NOT EXISTS repeats uuid,     -- the execution that it repeats
    ADD COLUMN IF NOT EXISTS repeats_as text,  -- rerun or repair
    ADD COLUMN IF NOT EXISTS succeeded text;   -- of completed ones: the cells, '' where it was all

-- The rows that are there are not filled in: migration 0020 has them folded anew from the events.

CREATE INDEX ON execution_status (repeats) WHERE repeats IS NOT NULL;
CREATE INDEX ON execution_status (notebook_id, succeeded, requested_position DESC)
    WHERE succeeded IS NOT NULL;
