"""The event store, brokers, files and settings that the other packages stand on."""
