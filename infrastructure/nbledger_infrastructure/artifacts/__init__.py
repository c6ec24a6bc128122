"""The artifact store: content-addressed files in a folder or a bucket."""
