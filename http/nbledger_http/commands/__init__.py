"""What clients can have done: one function for each command."""
