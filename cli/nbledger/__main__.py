"""``python -m nbledger``."""

from nbledger.main import main

if __name__ == "__main__":
    main(prog_name="nbledger")
