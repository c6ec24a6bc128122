"""What a notebook leaves: results that it handed back, tables, files."""
