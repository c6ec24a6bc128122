"""The words that several rooms share, each defined once."""
