"""One module for each resource of the API: its handlers and how OpenAPI describes them."""
