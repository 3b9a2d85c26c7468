"""A setting is changed in the user's own file, and nothing else in it."""

import os
import stat
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmesh.daemon import settings_file
from zmesh.daemon.settings_file import UNSET, changed, write_file
from zmesh.errors import ConfigurationError

OWN = """\
# my laptop
name = "studio"   # as in the mesh

port = 7420
peers = [
    "tcp://192.0.2.7:7420",  # the tower
]

[quotas]   # more than usual
mailbox.messages = 50_000  # fifty thousand

[folders]
"~/projects/api" = "backend"
"""


@pytest.mark.parametrize(
    ("path", "value", "before", "after"),
    [
        (["name"], "tower", '"studio"   # as', '"tower"   # as'),
        (["port"], 7000, "7420\npeers", "7000\npeers"),
        (["quotas", "mailbox", "messages"], 7, "50_000  # fifty", "7  # fifty"),
        (["folders", "~/projects/api"], "api", '"backend"', '"api"'),
        (["port"], UNSET, "port = 7420\n", ""),
        (["quotas", "mailbox", "messages"], UNSET, "mailbox.messages = 50_000  # fifty thousand\n", ""),
        (["quotas", "mailbox", "bytes"], 9, "# fifty thousand\n", "# fifty thousand\nmailbox.bytes = 9\n"),
        (["folders", "~/x.y"], "z", '"backend"\n', '"backend"\n"~/x.y" = "z"\n'),
    ],
)
def test_only_that_is_changed(path: list[str], value: Any, before: str, after: str) -> None:
    assert OWN.count(before) == 1
    assert changed(OWN, path, value) == OWN.replace(before, after)


@pytest.mark.parametrize(
    ("path", "value", "written"),
    [
        (["port"], 7000, "port = 7000\n"),
        (["discovery"], ["mdns", "static"], 'discovery = ["mdns", "static"]\n'),
        (["quotas", "mailbox", "messages"], 7, "[quotas]\nmailbox.messages = 7\n"),
        (["folders", "~/projects/a.b"], "api", '[folders]\n"~/projects/a.b" = "api"\n'),
        (["adapters", "browser", "deep", "port"], 1, "[adapters]\nbrowser.deep.port = 1\n"),
        (["adapters", "browser", "port"], UNSET, ""),
    ],
)
def test_a_file_that_says_nothing_begins_to(path: list[str], value: Any, written: str) -> None:
    assert changed("", path, value) == written


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("[a]\nb.x = 1\n", "[a]\nb.x = 1\nb.c.y = 2\n"),
        ("[a.b]\nx = 1 # c\n\n[d]\n", "[a.b]\nx = 1 # c\nc.y = 2\n\n[d]\n"),
        ("a = {b = {x = 1}}\n", "a = {b = {x = 1,c = {y = 2}}}\n"),
        ("a.b.x = 1\n", "a.b.x = 1\na.b.c.y = 2\n"),
    ],
)
def test_a_table_within_is_written_as_those_around_it(text: str, written: str) -> None:
    assert changed(text, ["a", "b", "c", "y"], 2) == written


def test_what_comes_before_tables_stays_before_them() -> None:
    said = tomllib.loads(changed("[folders]\n'/x' = 'y'\n", ["port"], 7000))
    assert said == {"port": 7000, "folders": {"/x": "y"}}


@pytest.mark.parametrize(
    ("text", "path"),
    [("peers = []", ["peers", "x"]), ("name = 'x'", ["name", "first"]), ("port = 7", ["port", "a", "b"])],
)
def test_what_cannot_be_changed_is_told(text: str, path: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="change it there by hand"):
        changed(text, path, 7)


def test_a_library_that_writes_something_else_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    import tomlkit  # noqa: PLC0415

    monkeypatch.setattr(tomlkit, "dumps", lambda _: "port = 1\n")
    with pytest.raises(ConfigurationError, match="port cannot be changed as the file is written"):
        changed("port = 7\n", ["port"], 8)


NAMES = st.sampled_from(["name", "port", "quotas", "peer", "bytes", "a.b", "~/x y", "größe"])
TABLES = st.recursive(
    st.integers(-5, 5) | st.text("ab\"'\\\n#", max_size=5) | st.lists(st.integers(0, 3), max_size=2),
    lambda inner: st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
).filter(lambda value: isinstance(value, dict))


@given(TABLES, st.lists(NAMES, min_size=1, max_size=3), st.integers(0, 9) | st.just(UNSET))
def test_whatever_the_file_says_the_result_says_that_and_the_change_or_it_is_refused(
    table: dict[str, Any], path: list[str], value: Any
) -> None:
    import tomlkit  # noqa: PLC0415

    text = tomlkit.dumps(table)
    expected = tomllib.loads(text)
    inner: Any = expected
    for name in path[:-1]:
        inner = inner.setdefault(name, {}) if isinstance(inner, dict) else None
    try:
        written = changed(text, path, value)
    except ConfigurationError:
        return
    if isinstance(inner, dict):
        if value is UNSET:
            inner.pop(path[-1], None)
        else:
            inner[path[-1]] = value
    without = settings_file._without_empty  # noqa: SLF001 - what is empty need not be written
    assert without(tomllib.loads(written)) == without(expected)


def test_a_file_is_replaced_whole_with_its_mode_and_through_its_link(tmp_path: Path) -> None:
    real, link = tmp_path / "dotfiles.toml", tmp_path / "config.toml"
    real.write_text("port = 1\n")
    real.chmod(0o640)
    link.symlink_to(real)
    write_file(link, "port = 2\r\n")
    assert link.is_symlink()
    assert real.read_bytes() == b"port = 2\r\n"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    new = tmp_path / "new.toml"
    write_file(new, "x = 1\n")
    assert stat.S_IMODE(new.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.toml", "dotfiles.toml", "new.toml"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_disk_that_refuses_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text("port = 1\n")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(ConfigurationError, match=r"cannot write .*config\.toml: No space left"):
        write_file(file, "port = 2\n")
    assert file.read_text() == "port = 1\n"
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]


def test_a_file_with_line_ends_of_windows_keeps_them_everywhere() -> None:
    text = 'name = "laptop"\r\n# mine\r\n'
    written = changed(text, ["quotas", "mailbox", "messages"], 5)
    assert written.startswith(text)
    assert tomllib.loads(written)["quotas"] == {"mailbox": {"messages": 5}}
    assert "\n" not in written.replace("\r\n", "")


def test_a_file_that_is_read_only_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("port = 7000\n")
    path.chmod(0o400)
    with pytest.raises(ConfigurationError, match=r"read-only: chmod u\+w"):
        write_file(path, "port = 7002\n")
    assert path.read_text() == "port = 7000\n"
    assert [each.name for each in tmp_path.iterdir()] == ["config.toml"]
