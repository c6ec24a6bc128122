"""What is told of executions beside their documents: what would run, and where a run stands."""
