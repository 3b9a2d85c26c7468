"""An adapter: it tells agents how much room this machine's disk has, and `zmesh status` when there is little.

The daemon keeps it running, if config.toml in the home (`zmesh doctor` names it) says, with the paths of yours:

    [adapters.disk]
    command = ["python", "examples/disk_space.py", "20"]

20 GiB are little then. Or run it by hand: python examples/disk_space.py
Then: zmesh ask disk "how much?"
"""

import contextlib
import shutil
import sys
from pathlib import Path
from typing import Any

import zmesh

EVERY = 30.0  # seconds between two looks


def room() -> int:
    return shutil.disk_usage(Path.home()).free >> 30


def main(little: int) -> None:
    with zmesh.connect("disk", role="adapter", capabilities=["disk-space"]) as disk:

        @disk.on()
        def answer(_: Any) -> dict[str, Any]:
            return {"text": f"{room()} GiB are free"}

        say_how_it_is(disk, little)
        print(f"{disk.address} answers", flush=True)
        while True:
            disk.listen(EVERY)
            say_how_it_is(disk, little)


def say_how_it_is(disk: zmesh.Client, little: int) -> None:
    free = room()
    if free < little:
        disk.report("degraded", f"{free} GiB are free, less than {little}")
    else:
        disk.report("healthy", f"{free} GiB are free")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
