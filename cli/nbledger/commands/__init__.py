"""Commands of the command line: serving on one machine, the demonstration, administration."""
