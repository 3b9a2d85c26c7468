"""The blocking connection, and the road to the daemon, with daemons that behave as none should."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import zmesh
from tests.storm.processes import wait_until
from zmesh.daemon import road
from zmesh.daemon.client import Client
from zmesh.daemon.connection import Connection
from zmesh.daemon.place import Place, place_of
from zmesh.daemon.wire import FAILED, HELLO, MAX_FRAME, OK, Frames, pack
from zmesh.errors import DaemonError, DaemonUnreachable, MeshError, MeshFull, PeerClosed, WrongLoop

WELCOME = {"peer": "laptop", "address": "code@laptop", "taken": [], "gone": []}
SOON = 20.0


class Fake:
    """A daemon that does with each connection what the test says."""

    def __init__(self, place: Place, serve: Callable[["Fake", socket.socket], None]) -> None:
        self.place, self._serve = place, serve
        self.heard: list[list[Any]] = []
        self.visits = 0
        self.over = threading.Event()
        self._listener, _ = place.listen()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.visits += 1
                with connection, suppress(OSError):
                    self._serve(self, connection)

    def requests(self, connection: socket.socket) -> Iterator[list[Any]]:
        """What the client says; its hello is welcomed."""
        frames = Frames()
        while data := connection.recv(65536):
            for frame in frames.feed(data):
                if frame[0] == HELLO:
                    connection.sendall(pack([HELLO, OK, WELCOME]))
                    continue
                self.heard.append(frame)
                yield frame

    def close(self) -> None:
        self.over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(SOON)


@contextmanager
def daemon(home: Path, serve: Callable[[Fake, socket.socket], None]) -> Iterator[Fake]:
    fake = Fake(place_of(home), serve)
    try:
        yield fake
    finally:
        fake.close()


@contextmanager
def connected(fake: Fake) -> Iterator[Connection]:
    connection = Connection(fake.place, lambda: None, mailbox="code")
    try:
        yield connection
    finally:
        connection.close()


def echo(fake: Fake, connection: socket.socket) -> None:
    """Answer each request with its arguments."""
    for number, _, arguments in fake.requests(connection):
        connection.sendall(pack([number, OK, arguments]))


def test_answers_go_to_who_asked_in_whatever_order_they_come(home: Path) -> None:
    def backwards(fake: Fake, connection: socket.socket) -> None:
        asked = []
        for number, _, arguments in fake.requests(connection):
            asked.append(pack([number, OK, arguments["n"]]))
            if len(asked) == 5:
                connection.sendall(b"".join(reversed(asked)))

    with daemon(home, backwards) as fake, connected(fake) as connection:
        answers: dict[int, Any] = {}

        def ask(n: int) -> None:
            answers[n] = connection.call("echo", {"n": n})

        threads = [threading.Thread(target=ask, args=(n,)) for n in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SOON)
        assert answers == {n: n for n in range(5)}


def test_threads_that_ask_much_and_a_daemon_that_reads_only_who_reads_come_through(home: Path) -> None:
    """Each side would wait for the other to read, if a thread that asks waited with the lock in its hand."""
    big = bytes(MAX_FRAME // 2)

    def large(fake: Fake, connection: socket.socket) -> None:
        for number, _, arguments in fake.requests(connection):
            connection.sendall(pack([number, OK, arguments["body"]]))  # blocks while the client does not read

    with daemon(home, large) as fake, connected(fake) as connection:
        threads = [threading.Thread(target=lambda: connection.call("echo", {"body": big})) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(2 * SOON)
        assert not any(thread.is_alive() for thread in threads)


def test_several_requests_at_once_and_what_went_wrong_with_each(home: Path) -> None:
    def picky(fake: Fake, connection: socket.socket) -> None:
        for number, _, arguments in fake.requests(connection):
            wrong = [number, FAILED, "MeshFull", "no"] if arguments["n"] % 2 else [number, OK, None]
            connection.sendall(pack(wrong))

    with daemon(home, picky) as fake, connected(fake) as connection:
        errors = connection.call_all(("x", {"n": n}) for n in range(500))
        assert [type(error) for error in errors] == [type(None), MeshFull] * 250
        assert connection.call_all([]) == []


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", pack([1, OK, []])[:4] + b"\xc1" * 20, pack([HELLO, OK, None])]
)
def test_garbage_of_a_daemon_ends_the_client_with_an_error_that_says_so(home: Path, answer: bytes) -> None:
    def garbage(fake: Fake, connection: socket.socket) -> None:
        for _ in fake.requests(connection):
            connection.sendall(answer)
            fake.over.wait(SOON)

    with daemon(home, garbage) as fake, connected(fake) as connection:
        with pytest.raises(DaemonError):
            connection.call("peers")
        assert connection.closed
        with pytest.raises(PeerClosed):
            connection.call("peers")
        fake.over.set()


@pytest.mark.parametrize("last_words", [b"", pack([HELLO, OK, WELCOME])[:-3]])
def test_a_daemon_that_hangs_up_at_once_is_given_up_in_the_end(
    home: Path, monkeypatch: pytest.MonkeyPatch, last_words: bytes
) -> None:
    monkeypatch.setattr(road, "PATIENCE", 0.5)
    started = []

    def rude(_: Fake, connection: socket.socket) -> None:
        connection.sendall(last_words)

    with daemon(home, rude) as fake:
        with pytest.raises(DaemonUnreachable, match=r"hangs up|does not answer"):
            Connection(fake.place, lambda: started.append(1))
        assert 1 < fake.visits < 100, "it does not knock all the time"
        assert started, "it is seen to, that it is the daemon who is there"


def test_a_connection_that_is_lost_again_and_again_is_made_again(home: Path) -> None:
    def forgetful(fake: Fake, connection: socket.socket) -> None:
        for number, _, arguments in fake.requests(connection):
            if fake.visits < 5:
                return
            connection.sendall(pack([number, OK, arguments]))

    with daemon(home, forgetful) as fake, connected(fake) as connection:
        assert connection.call("send", {"ident": b"1"}) == {"ident": b"1", "again": True}
        assert [frame[2].get("again", False) for frame in fake.heard] == [False, True, True, True, True]


def test_closing_ends_those_who_wait_and_may_be_done_twice_by_any_thread(home: Path) -> None:
    def silent(fake: Fake, connection: socket.socket) -> None:
        for _ in fake.requests(connection):
            pass

    with daemon(home, silent) as fake, connected(fake) as connection:
        ended: list[BaseException] = []

        def wait() -> None:
            try:
                connection.call("poll", {"timeout": None})
            except MeshError as error:
                ended.append(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
        wait_until(lambda: fake.heard, SOON, "it is asked")
        connection.close()
        connection.close()
        waiting.join(SOON)
        assert [type(error) for error in ended] == [PeerClosed]


def test_ctrl_c_in_a_poll_gives_back_what_it_brings(home: Path) -> None:
    """In a process of its own: the signal comes to its main thread, while it waits."""

    def slow(fake: Fake, connection: socket.socket) -> None:
        for number, verb, arguments in fake.requests(connection):
            if verb == "forget":
                connection.sendall(
                    pack([arguments["number"], OK, [{"lease": 7, "id": bytes(16), "body": [b"", False]}]])
                )
            elif verb == "nack":
                connection.sendall(pack([number, OK, None]))
                fake.over.set()

    script = (
        "import zmesh, sys\nfrom pathlib import Path\nfrom zmesh.daemon.connecting import connected\n"
        f"c = connected(Path({str(home)!r}), mailbox='code')\nprint('there', flush=True)\n"
        "try:\n    c.poll(timeout=60)\nexcept KeyboardInterrupt:\n    sys.stdin.read()\n"
    )
    with (
        daemon(home, slow) as fake,
        subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program,
    ):
        assert program.stdout is not None
        assert program.stdout.readline() == b"there\n"
        wait_until(lambda: fake.heard, SOON, "it polls")
        program.send_signal(signal.SIGINT)
        assert fake.over.wait(SOON)
        assert [frame[1] for frame in fake.heard] == ["poll", "forget", "nack"]
        assert fake.heard[-1][2] == {"lease": 7, "delay": 0.0, "counted": False}
        program.communicate(timeout=SOON)


def test_a_forked_process_has_no_part_in_it_and_does_not_keep_it_open(home: Path) -> None:
    with daemon(home, echo) as fake, connected(fake) as connection:
        read, write = os.pipe()
        pid = os.fork()
        if not pid:  # the child
            said = b"no error"
            with suppress(BaseException):
                try:
                    connection.call("peers")
                except WrongLoop:
                    said = b"wrong loop"
                connection.close()
                os.write(write, said)
                signal.pause()  # until it is killed
            os._exit(0)
        try:
            assert os.read(read, 100) == b"wrong loop"
            assert connection.call("echo", {"n": 1}) == {"n": 1}, "the parent's goes on"
            connection.close()
            wait_until(lambda: fake.visits == 1 and _at_its_end(fake), SOON, "the daemon sees the end")
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            os.close(read)
            os.close(write)


def _at_its_end(fake: Fake) -> bool:
    """It takes the next connection when it has seen the end of the one before."""
    with fake.place.connect(1.0):
        wait_until(lambda: fake.visits == 2, SOON, "the end of the one before")
    return True


def test_a_client_without_a_mailbox_has_no_address(home: Path) -> None:
    with daemon(home, echo) as fake, Client(Connection(fake.place, lambda: None)) as client:
        assert (client.address, client.peer) == ("code@laptop", "laptop")
        with pytest.raises(zmesh.BodyError):
            client.send("code", object())
        with pytest.raises(TypeError):
            client.keep(7)  # type: ignore[arg-type]
