-- Which execution one repeats, and what the completed ones covered, so that the repetitions of a
-- run and the last success of a notebook are found without reading its other runs.

ALTER TABLE execution_status
    ADD COLUMN IF NOT EXISTS repeats uuid,     -- the execution that it is a rerun or repair of
    ADD COLUMN IF NOT EXISTS succeeded text;   -- of completed ones: the cells, '' where it was all

-- What there is repeats nothing: that could not be asked for.
UPDATE execution_status
SET succeeded = coalesce(
    (document -> 'cellRange' ->> 'startCell') || '..' || (document -> 'cellRange' ->> 'endCell'), ''
)
WHERE document ->> 'status' = 'Completed';

CREATE INDEX ON execution_status (repeats) WHERE repeats IS NOT NULL;
CREATE INDEX ON execution_status (notebook_id, succeeded, requested_position DESC)
    WHERE succeeded IS NOT NULL;
