"""Bundles: history with its proofs in one folder or ZIP, checked without us or our database.

``exporting`` writes one, of what ``scopes`` says and ``selecting`` finds. The form is in
``docs/bundle.md``.
"""
