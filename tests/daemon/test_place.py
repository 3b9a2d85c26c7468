"""Where the daemon listens: who may get at it, and what clients find there."""

import json
import os
import socket
from pathlib import Path

import pytest

from zmesh.daemon.place import MAX_PATH, TOKEN_BYTES, TOKEN_FILE, Place, is_token, place_of
from zmesh.errors import DaemonError, StoreError


@pytest.fixture
def token_place(home: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A place on a system without Unix sockets."""
    monkeypatch.setattr("zmesh.daemon.place.UNIX", False)
    return place_of(home)


def talk(place: Place) -> bytes:
    """Connect to a listener that answers with the token it was given."""
    listener, token = place.listen()
    with listener, place.connect(5.0) as client:
        server, _ = listener.accept()
        with server:
            given = server.recv(TOKEN_BYTES, socket.MSG_WAITALL) if token else b""
            server.sendall(b"yes" if is_token(given, token) else b"no")
        return client.recv(10)


def test_the_directory_and_the_socket_are_the_users_alone(home: Path) -> None:
    place = place_of(home)
    assert place == place_of(home)
    assert talk(place) == b"yes"
    assert place.socket_path is not None
    assert place.directory.stat().st_mode & 0o777 == 0o700
    assert place.socket_path.stat().st_mode & 0o777 == 0o600


def test_a_socket_that_a_killed_daemon_left_is_replaced_and_nobody_answers_at_it_before(home: Path) -> None:
    place = place_of(home)
    place.listen()[0].close()
    assert place.socket_path is not None
    assert place.socket_path.exists()
    with pytest.raises(ConnectionRefusedError):
        place.connect(1.0)
    assert talk(place) == b"yes"
    place.leave()
    place.leave()
    with pytest.raises(FileNotFoundError):
        place.connect(1.0)


def test_a_directory_that_cannot_be_made_is_an_error_that_names_it(home: Path) -> None:
    home.mkdir()
    (home / "daemon").write_text("a file in its place")
    with pytest.raises(StoreError, match=r"cannot make .*daemon, where the daemon listens: File exists\. .*ZMESH_HOME"):
        place_of(home)


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_directory_that_is_open_to_others_is_refused(home: Path, mode: int) -> None:
    place = place_of(home)
    place.directory.chmod(mode)
    for use in (lambda: place_of(home), lambda: place.connect(1.0)):
        with pytest.raises(DaemonError, match=f"mode {mode:04o}.*chmod 700"):
            use()


def test_a_directory_of_somebody_else_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = place_of(home)
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    with pytest.raises(DaemonError, match=f"owner {uid}"):
        place.connect(1.0)


def test_a_link_in_its_place_is_refused(home: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    home.mkdir()
    (home / "daemon").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DaemonError, match="open to others"):
        place_of(home)


def test_a_long_path_has_its_socket_elsewhere_the_same_for_all_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = tmp_path / "short"
    short.mkdir()
    monkeypatch.setattr("zmesh.daemon.place.SHORT", short)
    home = tmp_path / ("x" * MAX_PATH)
    place = place_of(home)
    monkeypatch.setenv("TMPDIR", str(home))
    assert place_of(home) == place
    assert place.socket_path is not None
    assert place.socket_path.parent.parent == short
    assert place.directory == home / "daemon"
    assert place_of(tmp_path / ("y" * MAX_PATH)).socket_path != place.socket_path
    if len(os.fsencode(place.socket_path)) <= MAX_PATH:
        assert talk(place) == b"yes"
    place.socket_path.parent.chmod(0o755)
    with pytest.raises(DaemonError, match="open to others"):
        place_of(home)


def test_without_unix_sockets_it_is_loopback_and_a_token(token_place: Place) -> None:
    assert token_place.socket_path is None
    assert talk(token_place) == b"yes"
    file = token_place.directory / TOKEN_FILE
    assert file.stat().st_mode & 0o777 == 0o600
    first = json.loads(file.read_text())["token"]
    assert talk(token_place) == b"yes"
    assert json.loads(file.read_text())["token"] != first
    assert [path.name for path in token_place.directory.iterdir()] == [TOKEN_FILE]
    token_place.leave()
    with pytest.raises(FileNotFoundError):
        token_place.connect(1.0)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"port": "x", "token": ""}', '{"port": 1, "token": "zz"}', "7"])
def test_a_damaged_address_is_as_if_nobody_listened(token_place: Place, text: str) -> None:
    (token_place.directory / TOKEN_FILE).write_text(text)
    with pytest.raises(ConnectionRefusedError, match="damaged"):
        token_place.connect(1.0)


def test_a_port_beyond_all_ports_is_as_if_nobody_listened(token_place: Place) -> None:
    (token_place.directory / TOKEN_FILE).write_text('{"port": 99999, "token": "00"}')
    with pytest.raises(OSError, match="damaged"):
        token_place.connect(1.0)


def test_tokens_are_compared_whole() -> None:
    token = os.urandom(TOKEN_BYTES)
    assert is_token(token, token)
    assert not is_token(token[:-1], token)
    assert not is_token(b"", token)
