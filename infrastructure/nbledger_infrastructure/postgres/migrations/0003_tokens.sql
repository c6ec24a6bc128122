-- Access tokens: only their SHA-256 is kept.
CREATE TABLE api_token (
    token_id    uuid        PRIMARY KEY,
    hash        bytea       NOT NULL UNIQUE,
    name        text        NOT NULL,
    tenant_id   uuid        NOT NULL,
    project_ids uuid[],                 -- NULL: every project of the tenant
    roles       text[]      NOT NULL CHECK (cardinality(roles) > 0),
    created_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz,
    revoked_at  timestamptz
);

-- Keys that all processes share and no client sees, such as the one that signs download links.
CREATE TABLE secret_key (
    name       text        PRIMARY KEY,
    key        bytea       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
