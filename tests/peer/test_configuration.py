"""The configuration file: what it may say, and what is told about a slip in it."""

from pathlib import Path

import pytest

import zmesh
from zmesh.peer.configuration import Configuration, load_configuration
from zmesh.peer.folders import FILE, MAX_BYTES


def written(home: Path, text: str) -> Path:
    (home / FILE).write_text(text)
    return home


def test_without_a_file_everything_is_as_by_default(tmp_path: Path) -> None:
    assert load_configuration(tmp_path) == Configuration()
    assert load_configuration(written(tmp_path, "")) == Configuration()


def test_what_the_file_says_is_taken(tmp_path: Path) -> None:
    said = 'name = "studio"\nport = 9000\npeers = ["tcp://192.0.2.7:7420", "tower.local"]\ndiscovery = ["static"]\n'
    expected = Configuration("studio", 9000, ("tcp://192.0.2.7:7420", "tower.local"), ("static",))
    assert load_configuration(written(tmp_path, said)) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("peer = []", "'peer' is no setting: did you mean 'peers'"),
        ("zzz = 1", "there are name, port, peers, discovery, adapters, quotas, folders"),
        ('name = "two words"', "no peer name"),
        ("name = 7", "no peer name"),
        ("port = 0", "no port"),
        ("port = 65535", "the next one is the door's"),
        ("port = true", "no port"),
        ('port = "7420"', "no port"),
        ('peers = "tcp://192.0.2.7:7420"', "a list"),
        (
            'peers = ["tcp://192.0.2.7:99999"]',
            r"peers: 'tcp://192.0.2.7:99999' is no address of a peer.* \(at line 1\)",
        ),
        ("peers = [7]", "peers: 7 is no address of a peer"),
        ('discovery = ["telepathy"]', r"discovery = \['telepathy'\] is no list of some of rendezvous, static, mdns"),
        ('name = "studio"\n\n"port" = 0', r"port = 0 is no port.* \(at line 3\)"),
        ('[peers]\nx = "y"', r"peers is a list.* \(at line 1\)"),
        ("port 7420", "line 1"),
    ],
)
def test_a_slip_is_an_error_that_names_it(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(zmesh.ConfigurationError, match=words) as caught:
        load_configuration(written(tmp_path, text))
    assert FILE in str(caught.value)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(zmesh.ConfigurationError, match="cannot read"):
        load_configuration(tmp_path)
    (tmp_path / FILE).rmdir()
    (tmp_path / FILE).write_bytes(b"\xff")
    with pytest.raises(zmesh.ConfigurationError, match="utf-8"):
        load_configuration(tmp_path)
    (tmp_path / FILE).write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(zmesh.ConfigurationError, match="longer than"):
        load_configuration(tmp_path)


def test_a_program_goes_before_the_environment_and_that_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, 'peers = ["from-file"]\ndiscovery = ["static"]')

    def chosen(**said: list[str]) -> tuple[list[str], tuple[str, ...]]:
        peer = zmesh.Peer("studio", home=tmp_path, peers=said.get("peers"), discovery=said.get("discovery"))
        return [named.host for named in peer._peers], peer._sources  # noqa: SLF001 - nothing is to be opened here

    assert chosen() == (["from-file"], ("static",))
    monkeypatch.setenv("ZMESH_PEERS", "one, two tcp://three:9")
    monkeypatch.setenv("ZMESH_DISCOVERY", "rendezvous")
    assert chosen() == (["one", "two", "three"], ("rendezvous",))
    assert chosen(peers=["said"], discovery=[]) == (["said"], ())
    monkeypatch.setenv("ZMESH_PEERS", "not an address!")
    with pytest.raises(ValueError, match=r"^ZMESH_PEERS: 'address!' is no address of a peer"):
        chosen()
    monkeypatch.setenv("ZMESH_PEERS", "")
    monkeypatch.setenv("ZMESH_DISCOVERY", "telepathy")
    with pytest.raises(ValueError, match=r"^ZMESH_DISCOVERY: 'telepathy' is no source"):
        chosen()
    with pytest.raises(ValueError, match=r"^'telepathy' is no source"):
        chosen(discovery=["telepathy"])
    monkeypatch.delenv("ZMESH_DISCOVERY")
    with pytest.raises(TypeError, match="peers: a list"):
        zmesh.Peer("studio", home=tmp_path, peers="tcp://192.0.2.7:7420")
    written(tmp_path, "port = 1.5")
    with pytest.raises(zmesh.ConfigurationError):
        chosen(peers=[], discovery=[])
