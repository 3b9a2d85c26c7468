"""The kill storm on real processes: `python -m tests.storm --kills N --seed S`."""

import sys

from tests.storm.frame import Frame
from tests.storm.nemesis import Storm

FRAME = Frame("tests.storm", "kills", 50, Storm)

if __name__ == "__main__":
    sys.exit(FRAME.main())
