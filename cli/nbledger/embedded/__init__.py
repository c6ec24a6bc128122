"""The real services, started and owned by this process: PostgreSQL and a Kafka broker."""
