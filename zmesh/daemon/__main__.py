"""`python -m zmesh.daemon`: how clients start the daemon in the background. It leaves its starter before all else."""

import sys

from zmesh.daemon.process import detach


def main() -> int:
    """Run the daemon; return its exit code."""
    detach()
    from zmesh.daemon.program import run  # noqa: PLC0415 - a third of a second that the starter need not wait for

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
