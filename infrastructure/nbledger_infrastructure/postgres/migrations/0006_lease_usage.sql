-- What a run uses while it runs, told with the renewal of its lease; its events tell of the end.

ALTER TABLE execution_lease
    ADD COLUMN usage   json,         -- peakMemoryBytes, cpuSeconds, diskBytes
    ADD COLUMN used_at timestamptz;  -- when it was told
