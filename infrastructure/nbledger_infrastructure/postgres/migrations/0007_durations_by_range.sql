-- A run of some cells says nothing of how long a run of others takes: durations by what was run.

ALTER TABLE notebook_duration DROP COLUMN seconds;
ALTER TABLE notebook_duration ADD COLUMN runs json NOT NULL DEFAULT '{}';
