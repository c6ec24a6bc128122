"""Kafka: clients, CloudEvents, commands, and the relay that publishes what the store holds."""
