"""Tell whether a stall of the machine may have failed every test that failed in a JUnit report.

    python tests/support/failed_by_stall.py REPORT

Prints each failed test with the reason that its marker `stalls` gives. Exits with 0 when all of
them have one, and with 1 when any has none, when none failed, or when there is no report: then
the run itself has failed.
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path


def main(report: Path) -> int:
    """Read the report; return the exit status."""
    if not report.is_file():
        print("the run left no report")
        return 1
    failed = [
        case
        for case in ET.parse(report).getroot().iter("testcase")  # noqa: S314 - our own report
        if case.find("failure") is not None or case.find("error") is not None
    ]
    reasons = [_reason(case) for case in failed]
    for case, reason in zip(failed, reasons, strict=True):
        print(f"{case.get('classname')}::{case.get('name')}: {reason or 'no stall of the machine'}")
    return 0 if failed and all(reasons) else 1


def _reason(case: ET.Element) -> str | None:
    return next(
        (each.get("value") for each in case.iter("property") if each.get("name") == "stalls"),
        None,
    )


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
