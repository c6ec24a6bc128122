"""Where requests come in: the application, its server, and what stands before every handler."""
