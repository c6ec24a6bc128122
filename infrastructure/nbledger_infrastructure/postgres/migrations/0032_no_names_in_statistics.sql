-- Statistics of the database keep values of an index's expression as well: names of libraries,
-- which are to be gone with their library. What was kept of it goes with the index.

SET LOCAL lock_timeout = '30s';

DROP INDEX event_library_name;
CREATE INDEX event_library_name ON event (tenant_id, project_id, (data ->> 'name'))
    WHERE type = 'library.uploaded.v1';
ALTER INDEX event_library_name ALTER COLUMN 3 SET STATISTICS 0;
