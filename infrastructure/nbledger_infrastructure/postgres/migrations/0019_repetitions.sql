-- Which execution one repeats, and what the completed ones covered, so that the repetitions of a
-- run and the last success of a notebook are found without reading its other runs.

ALTER TABLE execution_status
    ADD COLUMN IF NOT EXISTS repeats uuid,     -- the execution that it repeats
    ADD COLUMN IF NOT EXISTS repeats_as text,  -- rerun or repair
    ADD COLUMN IF NOT EXISTS succeeded text;   -- of completed ones: the cells, '' where it was all

-- What there is repeats nothing: that could not be asked for. PostgreSQL takes no JSON apart that
-- has NUL in a text anywhere, as parameters may.
UPDATE execution_status AS s
SET succeeded = coalesce(
    (d.plain -> 'cellRange' ->> 'startCell') || '..' || (d.plain -> 'cellRange' ->> 'endCell'), ''
)
FROM (
    SELECT execution_id,
        regexp_replace(document::text, '(?<!\\)((?:\\\\)*)\\u0000', '\1', 'g')::json AS plain
    FROM execution_status
) AS d
WHERE d.execution_id = s.execution_id AND d.plain ->> 'status' = 'Completed';

CREATE INDEX ON execution_status (repeats) WHERE repeats IS NOT NULL;
CREATE INDEX ON execution_status (notebook_id, succeeded, requested_position DESC)
    WHERE succeeded IS NOT NULL;
