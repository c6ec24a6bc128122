"""Fill a jupyter-scheduler database with jobs, through the library's own models.

One job has really been run by the server; the others are copies of its row under new ids. The
files need no copies: listing and describing a job looks for its files in the output directory
only, where they arrive when a user downloads them.
"""

from __future__ import annotations

import sys
import uuid

from jupyter_scheduler.orm import (  # pyright: ignore[reportMissingImports] - the peer's
    Job,
    create_session,
)


def copy_job(db_url: str, job_id: str, copies: int) -> None:
    with create_session(db_url)() as session:
        original = session.query(Job).filter(Job.job_id == job_id).one()
        columns = {c.name: getattr(original, c.name) for c in Job.__table__.columns}
        for _ in range(copies):
            new_id = str(uuid.uuid4())
            session.add(Job(**columns | {"job_id": new_id, "url": f"/jobs/{new_id}"}))
        session.commit()


if __name__ == "__main__":
    copy_job(sys.argv[1], sys.argv[2], int(sys.argv[3]))
