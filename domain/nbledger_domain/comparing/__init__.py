"""The differences between two versions of a notebook, in the form of nbdime."""
