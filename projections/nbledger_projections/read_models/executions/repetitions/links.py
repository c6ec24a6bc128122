"""Executions that repeat others: statements that find them, as of now."""

from typing import Final

REQUESTS: Final = """
    SELECT e.stream_id AS execution_id,
        (e.data -> 'cause' ->> 'executionId')::uuid AS repeats,
        e.data -> 'cause' ->> 'kind' AS kind,
        e.position AS requested_position
    FROM event AS e
    WHERE e.subject_id = $3 AND e.tenant_id = $1 AND e.project_id = $2 AND e.type = ANY($5)
        AND e.data IS NOT NULL AND e.data -> 'cause' ->> 'executionId' IS NOT NULL
        AND e.position > coalesce(
            (SELECT position FROM projection_checkpoint WHERE name = $6), 0
        )
"""
"""Repetitions of runs of notebook $3 that the table does not hold yet.

$1 is the tenant, $2 the project, $5 the names that requests are stored under, $6 the read model.
"""

REPETITIONS: Final = f"""(
    SELECT json_agg(
        json_build_object('executionId', found.execution_id, 'kind', found.kind)
        ORDER BY found.requested_position
    )
    FROM (
        SELECT execution_id, document -> 'cause' ->> 'kind' AS kind, requested_position
        FROM execution_status
        WHERE repeats = $4 AND notebook_id = $3 AND tenant_id = $1 AND project_id = $2
        UNION ALL
        SELECT execution_id, kind, requested_position FROM ({REQUESTS}) AS e WHERE repeats = $4
    ) AS found
)"""  # noqa: S608 (constants)
"""Those that repeat execution $4, oldest first; NULL without any."""
