"""What a worker takes: commands from Kafka, what waits in the store, by priority and capacity."""
