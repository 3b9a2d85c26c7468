"""SIGHUP: a daemon reads its configuration again, takes what it can, and tells what it cannot."""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zmesh
from tests.daemon_home import PORT, daemon_pid

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no such signal")
PLAIN = f'name = "laptop"\nport = {PORT}\n'


def troubles(client: zmesh.Client) -> list[str]:
    told: dict[str, Any] = client.call("daemon.status")
    return list(told["troubles"])


def wait(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_other_peers_are_looked_for_and_what_needs_a_start_is_told(daemon_home: Path) -> None:
    config = daemon_home / "config.toml"
    config.write_text(PLAIN + 'discovery = ["static"]\n')

    def reload(text: str) -> None:
        config.write_text(text)
        os.kill(daemon_pid(daemon_home), signal.SIGHUP)

    with zmesh.connect("code") as code:
        pid = daemon_pid(daemon_home)
        assert troubles(code) == []
        reload(PLAIN + 'discovery = ["static"]\npeers = ["tcp://127.0.0.1:9"]\n')
        wait(lambda: any("127.0.0.1:9" in trouble for trouble in troubles(code)), "the new address is visited")
        reload(PLAIN + 'discovery = ["static"]\npeers = "x"\n')
        wait(lambda: any("is not used: " in trouble and "peers" in trouble for trouble in troubles(code)), "the slip")
        assert any("127.0.0.1:9" in trouble for trouble in troubles(code)), "what was there before stays"
        reload(PLAIN.replace(str(PORT), str(PORT + 4)) + 'discovery = ["static", "rendezvous"]\n')
        wait(lambda: any("says another port" in trouble for trouble in troubles(code)), "what needs a start")
        assert not any("127.0.0.1:9" in trouble for trouble in troubles(code))
        wait(lambda: list((daemon_home / "rendezvous").glob("*")), "the way that it did not look before")
        reload(PLAIN + 'discovery = ["static"]\n')
        wait(lambda: troubles(code) == [], "all is as it says")
        assert daemon_pid(daemon_home) == pid


def test_what_was_said_on_the_command_line_stays(daemon_home: Path) -> None:
    from zmesh.daemon.place import place_of  # noqa: PLC0415
    from zmesh.daemon.process import start  # noqa: PLC0415

    (daemon_home / "config.toml").write_text(PLAIN + 'discovery = ["static"]\n')
    start(daemon_home, place_of(daemon_home), ["--peer", "tcp://127.0.0.1:9"])
    with zmesh.connect("code") as code:
        wait(lambda: any("127.0.0.1:9" in trouble for trouble in troubles(code)), "the wished address is visited")
        (daemon_home / "config.toml").write_text(PLAIN + 'discovery = ["static"]\npeers = ["tcp://127.0.0.1:11"]\n')
        os.kill(daemon_pid(daemon_home), signal.SIGHUP)
        log = place_of(daemon_home).directory / "daemon.log"
        wait(lambda: "was read again" in log.read_text(), "it was read")
        assert not any("127.0.0.1:11" in trouble for trouble in troubles(code))
        assert any("127.0.0.1:9" in trouble for trouble in troubles(code))
