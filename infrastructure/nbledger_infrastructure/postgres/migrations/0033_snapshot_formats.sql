-- The format of a snapshot gets a column of its own.
--
-- It was the beginning of the state, so that looking for the last snapshot of a format before a
-- position decompressed every earlier one. What a program of before this migration writes has the
-- format '', which none reads.

SET LOCAL lock_timeout = '30s';

ALTER TABLE notebook_snapshot ADD COLUMN format text NOT NULL DEFAULT '';
ALTER TABLE execution_snapshot ADD COLUMN format text NOT NULL DEFAULT '';
ALTER TABLE dataset_snapshot ADD COLUMN format text NOT NULL DEFAULT '';

-- {"format":"0123456789abcdef","row":…} is taken apart as text: PostgreSQL takes no JSON apart that
-- has NUL in a text anywhere.
UPDATE notebook_snapshot SET
    format = substr(state::text, 12, 16), state = left(substr(state::text, 36), -1)::json;
UPDATE execution_snapshot SET
    format = substr(state::text, 12, 16), state = left(substr(state::text, 36), -1)::json;
UPDATE dataset_snapshot SET
    format = substr(state::text, 12, 16), state = left(substr(state::text, 36), -1)::json;
