"""The API described: OpenAPI, its schemas, links and examples."""
