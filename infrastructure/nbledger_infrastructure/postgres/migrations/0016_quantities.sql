-- Statuses of executions hold durations and sizes as numbers, and words are made of them when they
-- are read. The numbers are not in the words, so the rows are folded from the events once more:
-- by the projector, from its first event. Single executions are read in full from the start, as
-- events that a row lacks are folded by whoever reads; lists fill up as the projector comes along.

ALTER TABLE execution_status
    -- Nobody reads these: what waits is in the queue, and the rest in the document.
    DROP COLUMN IF EXISTS phase,
    DROP COLUMN IF EXISTS epoch,
    DROP COLUMN IF EXISTS ended,
    DROP COLUMN IF EXISTS kernel_type,
    DROP COLUMN IF EXISTS priority,
    DROP COLUMN IF EXISTS requested_at;

TRUNCATE execution_status, notebook_duration;

ALTER TABLE execution_status
    ADD COLUMN IF NOT EXISTS request_warnings json NOT NULL;  -- silent holds what else folding needs

UPDATE projection_checkpoint SET position = 0, generation = generation + 1
WHERE name = 'execution_status';
