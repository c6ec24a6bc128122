-- Datasets: a row each, folded from their events.

CREATE TABLE dataset_details (
    dataset_id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    project_id uuid NOT NULL,
    created_position bigint NOT NULL,
    position bigint NOT NULL,          -- last event folded in
    version integer NOT NULL,          -- likewise, counted in its stream
    modified_at timestamptz NOT NULL,
    item json NOT NULL,                -- what a list shows
    document json NOT NULL             -- what the API answers
);

CREATE INDEX ON dataset_details (tenant_id, project_id, created_position DESC);
