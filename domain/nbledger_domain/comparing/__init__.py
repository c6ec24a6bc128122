"""What is otherwise in one version of a notebook than in another, in the form of nbdime."""
