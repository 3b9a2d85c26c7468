"""What things are called when nobody says."""

import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmesh.daemon.naming import agent_name, cleaned, host_name, own_name
from zmesh.errors import ConfigurationError
from zmesh.peer.configuration import load_configuration
from zmesh.peer.home import device_key_path, trust_path
from zmesh.protocol.address import is_name
from zmesh.trust.device import Device
from zmesh.trust.trust_store import TrustStore


@given(st.text(max_size=100))
def test_whatever_the_text_what_comes_out_is_a_name(text: str) -> None:
    name = cleaned(text, "otherwise")
    assert is_name(name)
    assert cleaned(name, "otherwise") == name


@pytest.mark.parametrize(
    ("text", "name"),
    [("My Project", "my-project"), ("api", "api"), ("v1.2_x", "v1.2_x"), ("-.x.-", "x"), ("", "agent"),
     ("日本", "agent"), ("a" * 80, "a" * 63)],
)  # fmt: skip
def test_a_text_becomes_a_name(text: str, name: str) -> None:
    assert cleaned(text, "agent") == name


def test_an_agent_is_called_as_the_environment_says_or_as_its_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / "My API" / "src" / "deep"
    deep.mkdir(parents=True)
    (tmp_path / "My API" / ".git").mkdir()
    assert agent_name(deep, tmp_path) == "my-api"
    (deep / "pyproject.toml").touch()
    assert agent_name(deep, tmp_path) == "deep"
    monkeypatch.setenv("ZMESH_AGENT", "code")
    assert agent_name(deep, tmp_path) == "code"
    monkeypatch.setenv("ZMESH_AGENT", "")
    assert agent_name(deep, tmp_path) == "deep"


def test_the_configuration_names_a_folder_and_what_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / "work" / "api" / "src"
    deep.mkdir(parents=True)
    (deep.parent / ".git").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = tmp_path / "config.toml"
    settings.write_text(f'port = 7430\n[folders]\n"~/work" = "many"\n"{deep.parent}/" = "backend"\n')
    assert agent_name(deep, tmp_path) == agent_name(deep.parent, tmp_path) == "backend"
    assert agent_name(tmp_path / "work" / "web", tmp_path) == "many"
    assert agent_name(tmp_path, tmp_path) != "many"
    assert load_configuration(tmp_path).port == 7430
    monkeypatch.setenv("ZMESH_AGENT", "code")
    assert agent_name(deep, tmp_path) == "code"


@pytest.mark.parametrize(
    ("table", "said"),
    [("folders = 7", "is a table"), ('[folders]\n"work" = "many"', "whole path"),
     ('[folders]\n"/work" = "a b"', "no agent name"),
     ('[folders]\n"/work" = 7', "no agent name"), ("[folders", "config.toml"),
     ("[folders]\n" + "\n".join(f'"/{n}" = "x"' for n in range(257)), "at most 256")],
)  # fmt: skip
def test_a_slip_in_the_names_of_folders_is_told(table: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(table)
    with pytest.raises(ConfigurationError, match=said):
        agent_name(tmp_path, tmp_path)
    with pytest.raises(ConfigurationError, match=said):
        load_configuration(tmp_path)


def test_a_folder_without_marks_is_its_own_project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("zmesh.daemon.naming._MARKS", (".no-such-mark",))
    assert agent_name(tmp_path / "Notes", tmp_path) == "notes"
    assert agent_name(Path("/"), tmp_path) == "agent"


def test_a_machine_is_called_as_configured_as_in_its_mesh_or_as_the_host(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Studio-7.local.example")
    home.mkdir()
    assert host_name() == "studio-7"
    assert own_name(home, load_configuration(home)) == "studio-7"
    with TrustStore(trust_path(home), Device.load_or_create(device_key_path(home))) as store:
        assert own_name(home, load_configuration(home)) == "studio-7", "not in a mesh yet"
        store.found("laptop")
    assert own_name(home, load_configuration(home)) == "laptop"
    (home / "config.toml").write_text('name = "desk"\n')
    assert own_name(home, load_configuration(home)) == "desk"


def test_a_host_without_a_usable_name_is_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "日本")
    assert host_name() == "machine"
