"""`python -m redlane` and the console script `redlane`."""

from __future__ import annotations

import sys

from redlane._cli import main

if __name__ == "__main__":
    sys.exit(main())
