"""Read models folded from events, their queries, and the relay of events to Kafka."""
