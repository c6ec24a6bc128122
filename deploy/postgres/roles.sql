-- What each role of nbledger may do in its database, and nothing beyond it.
--
--   psql --set ON_ERROR_STOP=1 --dbname "$OWNER_DSN" --file deploy/postgres/roles.sql
--
-- Run it as the owner of the tables (who migrates) with the right to create roles: once after
-- the first `nbledger migrate`, and again after an update of nbledger. Then make the users:
--
--   CREATE ROLE worker_1 LOGIN PASSWORD '…' IN ROLE nbledger_worker;
--
-- `nbledger migrate`, `nbledger token`, `nbledger principals`, `nbledger audit verify`,
-- `nbledger replay` and `nbledger projections` are commands of the owner.

BEGIN;

DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY[
        'nbledger_api', 'nbledger_relay', 'nbledger_projector', 'nbledger_worker',
        'nbledger_sealer', 'nbledger_auditor'
    ] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
        END IF;
    END LOOP;
    -- Only the owner makes tables, and only users that have a role come in.
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format(
        'GRANT CONNECT ON DATABASE %I TO nbledger_api, nbledger_relay, nbledger_projector, '
        'nbledger_worker, nbledger_sealer, nbledger_auditor', current_database()
    );
END
$$;
REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public
    TO nbledger_api, nbledger_relay, nbledger_projector, nbledger_worker, nbledger_sealer,
    nbledger_auditor;

-- A right that an earlier edition of this file gave, and this one does not, goes.
REVOKE ALL ON ALL TABLES IN SCHEMA public
    FROM nbledger_api, nbledger_relay, nbledger_projector, nbledger_worker, nbledger_sealer,
    nbledger_auditor;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public
    FROM PUBLIC, nbledger_api, nbledger_relay, nbledger_projector, nbledger_worker, nbledger_sealer,
    nbledger_auditor;

-- Nobody but the owner writes the table `event`. Events come in by this function alone, which
-- gives positions, salts, digests and chain values; and the data of a subject goes by the other
-- alone. The first inserts by record_events, which is nobody's to call.
ALTER FUNCTION append_events SECURITY DEFINER;
ALTER FUNCTION append_events SET search_path = public, pg_temp;
ALTER FUNCTION erase_subject SECURITY DEFINER;
ALTER FUNCTION erase_subject SET search_path = public, pg_temp;
-- The queue is written by them, and brought back in line with the events by this one.
ALTER FUNCTION repair_queue SECURITY DEFINER;
ALTER FUNCTION repair_queue SET search_path = public, pg_temp;
-- Within the first, and by triggers, shares and limits are kept: count_shares, share_queue,
-- hold_queue, beyond_limits, beyond_limits_of_batch and keep_notebook_limits are nobody's to call.
-- Shares of those who have none any more are forgotten by this one.
ALTER FUNCTION forget_shares SECURITY DEFINER;
ALTER FUNCTION forget_shares SET search_path = public, pg_temp;
GRANT EXECUTE ON FUNCTION append_events
    TO nbledger_api, nbledger_relay, nbledger_projector, nbledger_worker;
GRANT EXECUTE ON FUNCTION erase_subject TO nbledger_projector;

-- Everybody but the sealer reads whole events: aggregates and read models are folded from them.
GRANT SELECT ON event, erasure
    TO nbledger_api, nbledger_relay, nbledger_projector, nbledger_worker, nbledger_auditor;

-- api: reads everything that it answers with, checks tokens, keeps the key of its links.
GRANT EXECUTE ON FUNCTION notebook_list_page TO nbledger_api;
GRANT SELECT ON
    notebook_details, notebook_list, notebook_list_project, notebook_list_count,
    notebook_duration, execution_status, execution_results, dataset_details, library_details,
    schedule_list, schedule_firing, trigger_list, execution_list, execution_tag, execution_action,
    notice_list, webhook_details, projection_checkpoint, projection_rebuild, execution_usage,
    worker, api_token, principal, notebook_snapshot, execution_snapshot, dataset_snapshot
    TO nbledger_api;
GRANT SELECT, INSERT ON secret_key TO nbledger_api;
-- Keys of requests come in by the function that appends; the api looks for those it gets.
GRANT SELECT ON idempotency_key TO nbledger_api;

-- Secrets of webhooks are made by the api, which never reads one again. (It deletes those of a
-- webhook by its id.)
GRANT INSERT, DELETE, SELECT (webhook_id) ON webhook_secret TO nbledger_api;
-- It tells what has been delivered.
GRANT SELECT ON webhook_delivery, webhook_attempt TO nbledger_api;

-- Replays of events are asked for by the api, and carried out by the relay.
GRANT SELECT, INSERT, UPDATE ON event_replay TO nbledger_api, nbledger_relay;

-- It tells how many runs a schedule has left.
GRANT SELECT ON schedule TO nbledger_api;

-- It shows with a schedule that its runs fail.
GRANT SELECT ON failing_schedule TO nbledger_api;

-- It tells of a run that waits where it stands.
GRANT SELECT ON execution_queue, queue_share, queue_pace, notebook_run_limit TO nbledger_api;
GRANT EXECUTE ON FUNCTION queue_place TO nbledger_api;
-- And of a notebook that runs by itself what is going on.
GRANT SELECT ON automation, automation_trigger TO nbledger_api;
GRANT EXECUTE ON FUNCTION running_runs TO nbledger_api, nbledger_worker;

-- relay: keeps its position and what the broker has, and recovers what workers have lost.
GRANT SELECT, INSERT, UPDATE ON projection_checkpoint, command_topic, event_topic
    TO nbledger_relay;
-- State topics: what the broker has of them, and the read models that they are made of.
GRANT SELECT, INSERT, UPDATE ON state_topic TO nbledger_relay;
GRANT SELECT ON notebook_details, execution_status, dataset_details TO nbledger_relay;
GRANT SELECT ON execution_queue TO nbledger_relay;
GRANT EXECUTE ON FUNCTION repair_queue, forget_shares TO nbledger_relay;
GRANT SELECT, UPDATE, DELETE ON execution_lease TO nbledger_relay;
GRANT SELECT, DELETE ON worker TO nbledger_relay;
GRANT SELECT, INSERT, UPDATE ON lease_watch TO nbledger_relay;
-- Its sweep forgets keys once they are old.
GRANT SELECT, DELETE ON idempotency_key TO nbledger_relay;
GRANT SELECT, INSERT, UPDATE, DELETE ON schedule, schedule_run TO nbledger_relay;
-- What it tells notices by, and what waits for a kernel type in each project.
GRANT SELECT, INSERT, UPDATE, DELETE ON usual_duration, failing_schedule, kernel_outage
    TO nbledger_relay;
-- Automatic execution: what it keeps, and whether more runs may wait.
GRANT SELECT, INSERT, UPDATE, DELETE ON automation, automation_trigger TO nbledger_relay;
GRANT SELECT ON automation_since, queue_share TO nbledger_relay;
-- Webhooks: what it keeps, and the secrets that it signs with.
GRANT SELECT, INSERT, UPDATE, DELETE ON
    webhook_subscription, webhook_delivery, webhook_attempt, webhook_redelivery
    TO nbledger_relay;
GRANT SELECT, DELETE ON webhook_secret TO nbledger_relay;

-- projector: owns the contents of the read models.
GRANT SELECT, INSERT, UPDATE, DELETE ON
    notebook_details, notebook_list, notebook_list_project, notebook_list_count,
    notebook_duration, execution_status, execution_results, dataset_details, library_details,
    schedule_list, schedule_firing, trigger_list, execution_list, execution_tag, execution_action,
    notice_list, webhook_details, projection_checkpoint, notebook_snapshot, execution_snapshot,
    dataset_snapshot
    TO nbledger_projector;

-- worker: its leases, its own entry, and what waits. No token and no read model. The queue is
-- written by the function that appends alone.
GRANT SELECT, INSERT, UPDATE, DELETE ON execution_lease, worker TO nbledger_worker;
GRANT SELECT ON execution_queue, queue_share, notebook_run_limit TO nbledger_worker;
GRANT EXECUTE ON FUNCTION next_waiting TO nbledger_worker;

-- sealer: reads of events what is published of them, never their data nor its salt, and keeps the
-- logs, of which it deletes nothing.
GRANT SELECT (
    position, event_id, stream_id, version, type, subject_id, tenant_id, project_id, occurred_at,
    recorded_at, digest, chain, formula, metadata, metadata_salt
) ON event TO nbledger_sealer;
GRANT SELECT, INSERT, UPDATE ON
    transparency_log, log_tile, log_bundle, log_checkpoint, log_key, log_delivery, log_timestamp,
    log_policy, log_witness, projection_checkpoint
    TO nbledger_sealer;
GRANT SELECT ON
    transparency_log, log_tile, log_bundle, log_checkpoint, log_key, log_delivery, log_timestamp,
    log_policy, log_witness
    TO nbledger_api, nbledger_auditor;

COMMIT;
