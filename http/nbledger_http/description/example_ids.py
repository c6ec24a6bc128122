"""Identifiers and links that the examples share."""

NOTEBOOK_ID = "aa0e8400-e29b-41d4-a716-446655440000"

EXECUTION_ID = "bb0e8400-e29b-41d4-a716-446655440000"

REPAIR_ID = "dd0e8400-e29b-41d4-a716-446655440000"

PROJECT_ID = "660e8400-e29b-41d4-a716-446655440000"

DATASET_ID = "880e8400-e29b-41d4-a716-446655440000"

LIBRARY_ID = "bb0e8400-e29b-41d4-a716-446655440000"

ACTION_ID = "cc0e8400-e29b-41d4-a716-446655440000"

LINK = (
    "https://nbledger.example.com/downloads/770e8400-e29b-41d4-a716-446655440000/"
    f"{PROJECT_ID}/{NOTEBOOK_ID}/{'5f' * 32}/%s?contentType=…&expires=…&signature=…"
)
