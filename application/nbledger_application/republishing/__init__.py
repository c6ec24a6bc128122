"""Events that are published again: asking for it, and ending it."""
