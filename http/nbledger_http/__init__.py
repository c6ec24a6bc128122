"""The HTTP API: a Litestar application on granian."""
