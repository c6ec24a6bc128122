"""Writing while the artifact store or the database is away."""
