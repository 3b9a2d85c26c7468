"""The kill storm on the daemon: `python -m tests.daemon.storm --seconds N --seed S`."""

import sys

from tests.daemon.storm.nemesis import Storm
from tests.storm.frame import Frame

FRAME = Frame("tests.daemon.storm", "seconds", 20, Storm)

if __name__ == "__main__":
    sys.exit(FRAME.main())
