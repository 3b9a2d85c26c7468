"""Where the state lies."""

import errno
import stat
from pathlib import Path

import platformdirs
import pytest

from zmesh.errors import AddressError, StoreError
from zmesh.peer.home import device_key_path, home_directory, peer_directory, rendezvous_directory


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_caller_chooses_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZMESH_HOME", str(tmp_path / "environment"))
    assert home_directory(tmp_path / "chosen") == tmp_path / "chosen"
    assert home_directory(str(tmp_path / "text")) == tmp_path / "text"
    assert home_directory() == tmp_path / "environment"
    assert not (tmp_path / "zmesh").exists()


@pytest.mark.parametrize("unset", ["removed", "empty"])
def test_without_either_it_is_the_place_of_the_platform(
    unset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platformdirs, "user_data_dir", lambda *_, **__: str(tmp_path / "platform"))
    monkeypatch.setenv("ZMESH_HOME", "")
    if unset == "removed":
        monkeypatch.delenv("ZMESH_HOME")
    assert home_directory() == tmp_path / "platform"


def test_a_tilde_and_a_relative_path_are_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert home_directory("~/mesh") == tmp_path / "mesh"
    assert home_directory("here") == tmp_path / "here"


def test_everything_is_for_this_user_only(tmp_path: Path) -> None:
    home = home_directory(tmp_path / "home")
    studio = peer_directory(home, "studio")
    assert studio == home / "peers" / "studio"
    assert [mode(path) for path in (home, studio.parent, studio)] == [0o700] * 3


def test_making_it_twice_changes_nothing(tmp_path: Path) -> None:
    first = peer_directory(home_directory(tmp_path), "studio")
    (first / "store.db").write_text("mail")
    assert peer_directory(home_directory(tmp_path), "STUDIO ") == first
    assert (first / "store.db").read_text() == "mail"


def test_key_and_rendezvous_lie_beside_the_peers(tmp_path: Path) -> None:
    assert device_key_path(tmp_path) == tmp_path / "device.key"
    assert rendezvous_directory(tmp_path) == tmp_path / "rendezvous"


@pytest.mark.parametrize("name", ["", "..", "a/b", "with space", "x" * 64])
def test_a_peer_name_never_leads_elsewhere(name: str, tmp_path: Path) -> None:
    with pytest.raises(AddressError, match="not a valid peer name"):
        peer_directory(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_cannot_be_made_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError, match=r"cannot make .*file.*ZMESH_HOME to another place") as caught:
            home_directory(path)
        assert "Give it to this user" not in str(caught.value)
        assert "Move away the file" in str(caught.value)
    with pytest.raises(StoreError, match=r"Choose a shorter name, or set ZMESH_HOME"):
        home_directory(tmp_path / ("x" * 300))
    with pytest.raises(StoreError, match=r"nobody-of-this-name.*ZMESH_HOME"):
        home_directory("~nobody-of-this-name/mesh")
    for wrong in (7, b"home", ["home"]):
        with pytest.raises(TypeError, match="home is a path, not"):
            home_directory(wrong)  # type: ignore[arg-type]


def test_a_home_that_belongs_to_somebody_else_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(StoreError, match=r"Permission denied\. Give it to this user, or set ZMESH_HOME"):
        home_directory(tmp_path / "home")
