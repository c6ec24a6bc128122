"""The supervising child: starts a kernel, runs its cells, reports each."""
