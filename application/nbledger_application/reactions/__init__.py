"""What events bring about: steps that may be taken again, until nothing is left to do."""
