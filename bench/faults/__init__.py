"""The fault harness: real parts, real load, one fault at a time, invariants checked from outside.

`README.md` beside this file says how to add a scenario and how to read the scorecard.
"""

import sys
from pathlib import Path

# The harness runs the same services as the tests (tests/support), which are no package.
sys.path.append(str(Path(__file__).resolve().parents[2] / "tests"))
