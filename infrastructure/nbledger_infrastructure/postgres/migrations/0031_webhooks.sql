-- Webhooks: subscriptions as the API shows them, secrets, and what is to be delivered.

SET LOCAL lock_timeout = '30s';

-- Few: how many webhooks a project has.
CREATE INDEX event_webhook_created ON event (tenant_id, project_id)
    WHERE type = 'webhook.created.v1';

-- As the API shows them; folded from the events by the projector.
CREATE TABLE webhook_details (
    webhook_id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    project_id uuid NOT NULL,
    created_position bigint NOT NULL,
    position bigint NOT NULL,
    version integer NOT NULL,
    modified_at timestamptz NOT NULL,
    document json NOT NULL,
    item json NOT NULL
);

CREATE INDEX ON webhook_details (tenant_id, project_id, created_position);

-- What deliveries are signed with; in no event. Events name a secret by its id, and one that no
-- event names signs nothing.
CREATE TABLE webhook_secret (
    secret_id uuid PRIMARY KEY,
    webhook_id uuid NOT NULL,
    secret bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT statement_timestamp()
);

CREATE INDEX ON webhook_secret (webhook_id);

-- The following are folded from events by whoever delivers, in one transaction with its place.

CREATE TABLE webhook_subscription (
    webhook_id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL,
    project_id uuid NOT NULL,
    url text NOT NULL,
    event_types text[] NOT NULL,
    tags text[] NOT NULL,
    ordered boolean NOT NULL,
    enabled boolean NOT NULL,
    secret_id uuid NOT NULL,
    previous_secret_id uuid,            -- signs as well until then
    previous_until timestamptz
);

CREATE INDEX ON webhook_subscription (project_id);

-- Each event that a webhook gets, until the log of deliveries forgets it.
CREATE TABLE webhook_delivery (
    webhook_id uuid NOT NULL,
    position bigint NOT NULL,           -- of the event
    event_id uuid NOT NULL,
    type text NOT NULL,
    stream_id uuid NOT NULL,
    subject_id uuid NOT NULL,
    state text NOT NULL,                -- pending, delivered, dead
    failures integer NOT NULL DEFAULT 0,    -- in a row, since it was last asked for
    attempts integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    next_attempt_at timestamptz,        -- while it is pending; NULL: it waits for its stream
    ended_at timestamptz,               -- once it is not
    PRIMARY KEY (webhook_id, position)
);

CREATE UNIQUE INDEX ON webhook_delivery (webhook_id, event_id);
CREATE INDEX ON webhook_delivery (webhook_id, next_attempt_at) WHERE state = 'pending';
CREATE INDEX ON webhook_delivery (webhook_id, stream_id, position) WHERE state = 'pending';
CREATE INDEX ON webhook_delivery (webhook_id, state, position);
CREATE INDEX ON webhook_delivery (ended_at) WHERE state <> 'pending';
CREATE INDEX ON webhook_delivery (subject_id);

-- The log: each attempt with what was answered. What was sent is the event, which is not kept
-- twice.
CREATE TABLE webhook_attempt (
    webhook_id uuid NOT NULL,
    position bigint NOT NULL,
    number integer NOT NULL,            -- from 1
    at timestamptz NOT NULL,
    milliseconds integer NOT NULL,
    url text NOT NULL,
    request_headers json NOT NULL,
    status integer,                     -- NULL: no answer
    answer_headers json,
    answer_body bytea,                  -- its beginning
    error text,                         -- a code; NULL where it was delivered
    detail text,
    PRIMARY KEY (webhook_id, position, number)
);

-- Ranges of positions that are to be delivered again, until each is worked off.
CREATE TABLE webhook_redelivery (
    redelivery_id uuid PRIMARY KEY,     -- the event that asked for it
    webhook_id uuid NOT NULL,
    after bigint NOT NULL,              -- up to here it is done
    until bigint NOT NULL
);

CREATE INDEX ON webhook_redelivery (webhook_id);
