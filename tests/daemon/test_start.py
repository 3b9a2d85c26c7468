"""Starting the daemon: by many at once, under the name it had, and not when something is wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import zmesh
from tests.daemon_home import daemon_pid, kill_daemon
from zmesh.daemon.errand import ask_daemon, wait_until_gone
from zmesh.daemon.place import LOCK, place_of
from zmesh.daemon.process import STARTING
from zmesh.daemon.wishes import FILE, Wishes, forget, wishes
from zmesh.peer.lock_file import LockFile

CLIENTS = 20
ASKER = """
import sys, zmesh
with zmesh.connect(sys.argv[1]) as client:
    status = client.call("daemon.status")
    print(status["pid"], client.address, flush=True)
    sys.stdin.read()
"""


def test_twenty_clients_at_once_get_one_daemon_and_twenty_answers(daemon_home: Path) -> None:
    asking = [
        subprocess.Popen(
            [sys.executable, "-c", ASKER, f"agent{number}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )
        for number in range(CLIENTS)
    ]  # fmt: skip
    answers = []
    try:
        for process in asking:
            assert process.stdout is not None
            answers.append(process.stdout.readline().split())
        status = ask_daemon(place_of(daemon_home), "daemon.status")
    finally:
        ended = [process.communicate(timeout=60) for process in asking]
    assert [errors for _, errors in ended] == [""] * CLIENTS
    assert {pid for pid, _ in answers} == {str(daemon_pid(daemon_home))}
    assert [address for _, address in answers] == [f"agent{number}@laptop" for number in range(CLIENTS)]
    assert {client["mailbox"] for client in status["clients"]} == {f"agent{number}" for number in range(CLIENTS)}
    assert {client["pid"] for client in status["clients"]} == {process.pid for process in asking}


def test_words_are_remembered_until_they_are_forgotten(daemon_home: Path) -> None:
    place = place_of(daemon_home)
    wanted = Wishes("tower", 17_521, ("192.0.2.7", "192.0.2.8"))
    words = ["--name", "tower", "--port", "17521", "--peer", "192.0.2.7", "--peer", "192.0.2.8"]
    assert wishes(place, words) == wanted
    assert wishes(place, []) == wanted
    assert wishes(place, ["--name", "studio"]) == Wishes("studio")
    forget(place)
    assert wishes(place, []) == Wishes()
    for wrong in (["--port", "x"], ["--colour", "red"], ["stray"]):
        with pytest.raises(ValueError, match=r"port|colour|stray"):
            wishes(place, wrong)
    assert wishes(place, []) == Wishes()


@pytest.mark.parametrize("content", [b"", b"{", b"5", b'["--colour"]', b"\xff", json.dumps([[]]).encode()])
def test_what_cannot_be_remembered_is_no_reason_not_to_start(daemon_home: Path, content: bytes) -> None:
    place = place_of(daemon_home)
    (place.directory / FILE).write_bytes(content)
    assert wishes(place, []) == Wishes()


def test_a_daemon_that_is_asked_and_gone_is_an_oserror(daemon_home: Path) -> None:
    place = place_of(daemon_home)
    with pytest.raises(OSError, match=r"."):
        ask_daemon(place, "daemon.status")
    with zmesh.connect("code"):
        with pytest.raises(zmesh.DaemonError, match="does not know 'dance'"):
            ask_daemon(place, "dance")
        kill_daemon(daemon_home)
        with pytest.raises(OSError, match=r"."):
            ask_daemon(place, "daemon.status")


def test_a_daemon_that_does_not_answer_is_not_waited_for_for_ever(daemon_home: Path) -> None:
    place = place_of(daemon_home)
    listener, _ = place.listen()
    with listener, pytest.raises(zmesh.DaemonUnreachable, match=r"within 0\.1 s"):
        ask_daemon(place, "daemon.status", 0.1)


def test_a_daemon_is_gone_when_it_has_given_its_lock_back_and_nobody_starts_another(daemon_home: Path) -> None:
    place = place_of(daemon_home)
    lock, starter = LockFile(place.directory / LOCK), LockFile(place.directory / STARTING)
    mine = os.getpid()
    lock.acquire()
    with pytest.raises(zmesh.WaitTimeout, match=rf"process {mine}, has not ended after 0\.05 s"):
        wait_until_gone(place, mine, 0.05)
    wait_until_gone(place, mine + 1, 0.0)  # another one is there by now
    lock.release()
    starter.acquire()
    with pytest.raises(zmesh.WaitTimeout):
        wait_until_gone(place, mine, 0.05)
    starter.release()
    wait_until_gone(place, mine, 0.0)
    lock.acquire()  # looking has not kept it
    lock.release()
