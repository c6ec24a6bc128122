-- State topics: what the broker has of each. `topic_id` and `generation` say of which topic, and of
-- which edition of its read model; with others all documents are published again, in the order of
-- their keys, as far as `filled_through` says. It is NULL once all of them are there.

SET LOCAL lock_timeout = '30s';

CREATE TABLE state_topic (
    topic text PRIMARY KEY,
    topic_id uuid NOT NULL,
    generation bigint NOT NULL,
    filled_through uuid
);
