"""The sweeper: runs that nobody runs any more, and commands that nobody has received."""
