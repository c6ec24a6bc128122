"""Resources as replies show them: documents, results, files, streams."""
