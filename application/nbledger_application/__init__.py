"""The write side: what decides and appends. It knows no HTTP, no Kafka and no read model."""
