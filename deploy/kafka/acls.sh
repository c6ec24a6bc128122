#!/usr/bin/env bash
# What each role of nbledger may do on Apache Kafka, and nothing beyond it.
#
#   KAFKA_ACLS="kafka-acls.sh --bootstrap-server kafka:9092 --command-config admin.properties" \
#       deploy/kafka/acls.sh
#
# Makes ACLs for the users nbledger-relay, nbledger-worker and nbledger-sealer, and for every
# further argument a subscriber: a user that reads events, states, checkpoints and lineage, in consumer
# groups whose names begin with its own. Run it again with whoever is new: an ACL that exists already
# is kept.
# The API and the projector have nothing to do with Kafka.
#
#   NBLEDGER_KAFKA_TOPIC_PREFIX  as in the settings (default: nbledger)
#   RELAY, WORKER, SEALER        names of the users, where they are others
set -euo pipefail

prefix=${NBLEDGER_KAFKA_TOPIC_PREFIX:-nbledger}
relay=${RELAY:-nbledger-relay}
worker=${WORKER:-nbledger-worker}
sealer=${SEALER:-nbledger-sealer}
read -ra acls <<<"${KAFKA_ACLS:?the command kafka-acls.sh with its server and credentials}"

# usage: allow USER "OPERATION ..." RESOURCE...
allow() {
    local user=$1 operations=() operation
    for operation in $2; do operations+=(--operation "$operation"); done
    shift 2
    "${acls[@]}" --add --allow-principal "User:$user" "${operations[@]}" "$@"
}

states="notebook-state execution-state dataset-state"

# The relay makes the topics of events, states, lineage, commands, control and replays, and writes
# all of them.
allow "$relay" "Create Describe Write" --topic "$prefix.events"
for state in $states; do
    allow "$relay" "Create Describe Write" --topic "$prefix.$state"
done
allow "$relay" "Create Describe Write" --topic "$prefix.replay." --resource-pattern-type prefixed
allow "$relay" "Create Describe Write" --topic "$prefix.lineage"
allow "$relay" "Create Describe Write" --topic "$prefix.commands." --resource-pattern-type prefixed
allow "$relay" "Create Describe Write" --topic "$prefix.control"

# A worker reads commands and control, or makes these topics where it comes first. It neither
# reads events nor writes anything.
allow "$worker" "Create Describe Read" --topic "$prefix.commands." --resource-pattern-type prefixed
allow "$worker" "Create Describe Read" --topic "$prefix.control"
allow "$worker" "Describe Read" --group "$prefix.workers"

# The sealer makes the topic of checkpoints, and alone writes it.
allow "$sealer" "Create Describe Write" --topic "$prefix.checkpoints"

for subscriber in "$@"; do
    allow "$subscriber" "Describe Read" --topic "$prefix.events"
    for state in $states; do
        allow "$subscriber" "Describe Read" --topic "$prefix.$state"
    done
    allow "$subscriber" "Describe Read" --topic "$prefix.checkpoints"
    allow "$subscriber" "Describe Read" --topic "$prefix.replay." --resource-pattern-type prefixed
    allow "$subscriber" "Describe Read" --topic "$prefix.lineage"
    allow "$subscriber" "Describe Read" --group "$subscriber" --resource-pattern-type prefixed
done
