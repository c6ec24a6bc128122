"""``python -m nbledger_schemas``: write the files made of the types; ``release`` promises them."""

import sys

from nbledger_schemas import writing


def main() -> int:
    """Do what is asked for; 1 where readers would break."""
    releasing = sys.argv[1:] == ["release"]
    found = writing.release() if releasing else writing.broken()
    sys.stderr.writelines(f"{each}\n" for each in found)
    if not releasing:
        writing.write()
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
