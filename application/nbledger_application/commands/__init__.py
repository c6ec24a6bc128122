"""What callers can have done: one module for each use case."""
