"""The adapters of the configuration: what may be said of them, and who must not be able to say it."""

import os
from pathlib import Path

import pytest

import zmesh
from zmesh.errors import ConfigurationError
from zmesh.peer.adapter_settings import MAX_ADAPTERS, MAX_TEXT, MAX_VARIABLES, MAX_WORDS, AdapterSettings
from zmesh.peer.configuration import load_configuration
from zmesh.peer.folders import FILE

CLOCK = '[adapters.clock]\ncommand = ["clock", "--every", "1s"]\n'


def written(home: Path, text: str) -> Path:
    (home / FILE).write_text(text)
    (home / FILE).chmod(0o600)
    return home


def test_what_the_file_says_is_taken(tmp_path: Path) -> None:
    said = CLOCK + '[adapters.desktop]\nenvironment = {DISPLAY = ":0", _A1 = ""}\ncommand = ["desk top"]\n'
    assert load_configuration(written(tmp_path, said)).adapters == (
        AdapterSettings("clock", ("clock", "--every", "1s")),
        AdapterSettings("desktop", ("desk top",), (("DISPLAY", ":0"), ("_A1", ""))),
    )
    assert load_configuration(written(tmp_path, 'name = "studio"')).adapters == ()


def test_two_that_say_the_same_are_equal_in_whatever_order(tmp_path: Path) -> None:
    one = load_configuration(written(tmp_path, CLOCK + 'environment = {A = "1", B = "2"}'))
    other = load_configuration(written(tmp_path, CLOCK + 'environment = {B = "2", A = "1"}'))
    assert one == other
    assert one != load_configuration(written(tmp_path, CLOCK))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("adapters = 7", r"adapters are tables such as \[adapters.desktop\]"),
        ("[adapters]\nclock = 7", "adapters are tables"),
        ("[adapters.Clock]", "'Clock' is no adapter name"),
        ('[adapters."a/b"]', "'a/b' is no adapter name"),
        ("[adapters.clock]", "adapters.clock: command is a list of 1 to"),
        ("[adapters.clock]\ncommand = []", "adapters.clock: command is a list"),
        ('[adapters.clock]\ncommand = [""]', "adapters.clock: command is a list"),
        ('[adapters.clock]\ncommand = "clock"', "adapters.clock: command is a list"),
        ('[adapters.clock]\ncommand = ["a", 7]', "adapters.clock: command: 7 is no text"),
        ('[adapters.clock]\ncommand = ["a\\u0000"]', "adapters.clock: command: .* is no text"),
        (f"[adapters.clock]\ncommand = ['{'a' * (MAX_TEXT + 1)}']", "adapters.clock: command: .* is no text"),
        (f"[adapters.clock]\ncommand = {['a'] * (MAX_WORDS + 1)}", "adapters.clock: command is a list"),
        (CLOCK + 'comand = ["x"]', "adapters.clock: 'comand' is no setting: did you mean 'command'"),
        (CLOCK + "zzz = 1", "adapters.clock: 'zzz' is no setting: there are command, environment"),
        (CLOCK + "environment = 7", "adapters.clock: environment is a table of at most"),
        (CLOCK + "environment = {A = 7}", "adapters.clock: environment: 'A': 7 is no text"),
        (CLOCK + 'environment = {"A=B" = "x"}', "'A=B' is no name of a variable"),
        (CLOCK + 'environment = {ZMESH_HOME = "x"}', "ZMESH_HOME is said by the daemon itself"),
        (CLOCK + 'environment = {zmesh_adapter = "x"}', "zmesh_adapter is said by the daemon itself"),
        (CLOCK + "[adapters.clock.environment]\n" + "".join(f'A{n} = ""\n' for n in range(MAX_VARIABLES + 1)), "most"),
        ("".join(f'[adapters.a{n}]\ncommand = ["a"]\n' for n in range(MAX_ADAPTERS + 1)), "17 adapters, more than 16"),
    ],
)
def test_a_slip_is_an_error_that_names_it(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        load_configuration(written(tmp_path, text))
    assert FILE in str(caught.value)
    assert "at line" not in str(caught.value), "it names the table, of which there may be many"


def test_as_many_as_may_be_are_taken(tmp_path: Path) -> None:
    said = "".join(f'[adapters.a{n}]\ncommand = ["a"]\n' for n in range(MAX_ADAPTERS))
    assert len(load_configuration(written(tmp_path, said)).adapters) == MAX_ADAPTERS


@pytest.mark.skipif(os.name != "posix", reason="access lists protect it there")
@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_programs_that_others_could_name_are_not_run(tmp_path: Path, mode: int) -> None:
    written(tmp_path, CLOCK).joinpath(FILE).chmod(mode)
    with pytest.raises(zmesh.ConfigurationError, match=rf"names programs to run.*{FILE}.*mode {mode:04o}.*chmod go-w"):
        load_configuration(tmp_path)
    (tmp_path / FILE).write_text('name = "studio"\n["\\u0061dapters".clock]\ncommand = ["clock"]\n')
    with pytest.raises(zmesh.ConfigurationError, match="names programs to run"):
        load_configuration(tmp_path)
    (tmp_path / FILE).write_text('name = "studio"\n')
    assert load_configuration(tmp_path).name == "studio", "nothing else is asked of it"


@pytest.mark.skipif(os.name != "posix", reason="access lists protect it there")
def test_a_file_in_a_place_that_others_can_change_names_no_programs(tmp_path: Path) -> None:
    written(tmp_path, CLOCK)
    (tmp_path / FILE).chmod(0o644)
    tmp_path.chmod(0o755)
    assert load_configuration(tmp_path).adapters, "others may read it"
    tmp_path.chmod(0o775)
    with pytest.raises(zmesh.ConfigurationError, match=r"can change .* \(owner \d+, mode 0775\)"):
        load_configuration(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="gives files to others")
def test_a_file_of_somebody_else_names_no_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chown(written(tmp_path, CLOCK) / FILE, 12345, -1)
    with pytest.raises(zmesh.ConfigurationError, match="owner 12345"):
        load_configuration(tmp_path)
    os.chown(tmp_path / FILE, 0, -1)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    os.chown(tmp_path, 12345, -1)
    assert load_configuration(tmp_path).adapters, "the system's administrator may write it"
