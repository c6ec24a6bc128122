"""The read side: read models folded from events, with their queries."""
