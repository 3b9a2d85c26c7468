"""Commands whose standard input, output or errors are closed: a line and an exit code, never a traceback."""

import subprocess

import pytest

from tests.cli.commands import SECONDS, Machine


def closed(laptop: Machine, redirection: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run a command from a shell that closes something."""
    ended = subprocess.run(  # noqa: S602 - the shell is what closes
        f"{' '.join(laptop.shell(*words))} {redirection}", shell=True, env=laptop.environment({}), capture_output=True,
        stdin=subprocess.DEVNULL, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended


@pytest.mark.parametrize(
    "words", [("send", "code@laptop"), ("ask", "code@laptop", "-"), ("send", "code@laptop", "--bytes")]
)
def test_without_an_input_nothing_is_sent_in_its_place(laptop: Machine, words: tuple[str, ...]) -> None:
    ended = closed(laptop, "<&-", *words)
    assert ended.returncode == 2
    assert "standard input is closed" in ended.stderr


def test_commands_that_read_nothing_need_no_input(laptop: Machine) -> None:
    assert closed(laptop, "<&-", "send", "--as", "ann", "ann@laptop", "x").returncode == 0
    assert "x\n" in closed(laptop, "<&-", "inbox", "--as", "ann").stdout
    assert closed(laptop, "<&- >&- 2>&-", "send", "--as", "ann", "ann@laptop", "x").returncode == 0
    assert closed(laptop, "<&-", "join").returncode == 2
    ended = closed(laptop, "<&-", "uninstall")
    assert (ended.returncode, "--keep-data, or --purge" in ended.stderr) == (2, True)
