-- Uploaded libraries: a row each, folded from their events.

CREATE TABLE library_details (
    library_id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    project_id uuid NOT NULL,
    created_position bigint NOT NULL,
    position bigint NOT NULL,          -- last event folded in
    version integer NOT NULL,          -- likewise, counted in its stream
    modified_at timestamptz NOT NULL,
    item json NOT NULL,                -- what a list shows
    document json NOT NULL             -- what the API answers
);

CREATE INDEX ON library_details (tenant_id, project_id, created_position DESC);

-- Workers read no projection: they find the libraries of a project by name among the events.
CREATE INDEX event_library_name ON event (tenant_id, project_id, (data ->> 'name'))
    WHERE type = 'library.uploaded.v1';
