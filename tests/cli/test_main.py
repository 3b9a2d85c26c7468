"""The command itself: what it lists, what it loads for that, and what the shell completes."""

import subprocess
import sys
from pathlib import Path

import click
import pytest

import zmesh
from tests.cli.commands import Machine
from tests.daemon_home import daemon_pid
from zmesh.cli.main import COMMANDS, SECTIONS, main

HEAVY = ("asyncio", "rich", "sqlite3", "zmq", "nacl", "zmesh.peer.peer")


def loaded(*words: str) -> set[str]:
    """The modules that a command loads."""
    script = f"import sys\nfrom zmesh.cli.main import main\nmain({list(words)!r}, standalone_mode=False)\n"
    script += "print(*sys.modules, file=sys.stderr)"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    return set(ended.stderr.split())


def test_every_command_is_in_one_section_and_teaches() -> None:
    assert sorted(name for names in SECTIONS.values() for name in names) == sorted(COMMANDS)
    context = click.Context(main, info_name="zmesh")
    for name, (_, text) in COMMANDS.items():
        command = main.get_command(context, name)
        assert command is not None
        assert command.name == name
        assert command.help
        assert text.endswith(".")


def test_help_shows_every_command_and_a_first_example(laptop: Machine) -> None:
    shown = laptop.run("--help").stdout
    for name, (_, text) in COMMANDS.items():
        assert f"  {name:<10}  {text}" in shown
    assert '    zmesh send --as ann bob "hello"\n' in shown
    assert daemon_pid(laptop.home) == 0


def test_a_slip_in_a_command_is_answered_with_near_ones(laptop: Machine) -> None:
    assert "there is no command 'sned': did you mean send?" in laptop.misuses("sned", "bob", "hello")
    assert laptop.misuses("xyzzy").endswith("there is no command 'xyzzy'\n")
    assert "No such option" in laptop.misuses("--sned")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_help_that_cannot_be_printed_is_a_line(laptop: Machine) -> None:
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "zmesh", "--help"], env=laptop.environment({}), stdout=full,
            stderr=subprocess.PIPE, text=True, check=False, timeout=30,
        )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (1, "Error: [Errno 28] No space left on device\n")


@pytest.mark.parametrize(
    "words",
    [("--help",), ("send", "--help"), ("status",), ("send", "code@laptop", "x"), ("inbox",), ("agents", "--json")],
)
def test_short_commands_load_nothing_heavy(laptop: Machine, words: tuple[str, ...]) -> None:
    laptop.run("up")
    modules = loaded(*words)
    assert "click" in modules
    assert modules.isdisjoint(HEAVY)


# --- completion ---


def completed(laptop: Machine, *words: str) -> list[str]:
    """What the shell offers for the last word."""
    text = " ".join(("zmesh", *words))
    variables = {"_ZMESH_COMPLETE": "bash_complete", "COMP_WORDS": text, "COMP_CWORD": str(len(words))}
    script = "import sys\nsys.argv[0] = 'zmesh'\nfrom zmesh.cli.main import main\nmain(prog_name='zmesh')"
    ended = subprocess.run(
        [sys.executable, "-c", script], env=laptop.environment(variables), capture_output=True, text=True, check=False
    )
    assert ended.stderr == ""
    return [line.partition(",")[2] for line in ended.stdout.splitlines() if line]


def test_commands_options_agents_and_mailboxes_are_completed(laptop: Machine) -> None:
    assert completed(laptop, "s") == ["send", "status", "service"]
    assert completed(laptop, "send", "--pri") == ["--priority"]
    assert completed(laptop, "send", "--priority", "cri") == ["critical"]
    assert completed(laptop, "send", "c") == []
    assert daemon_pid(laptop.home) == 0  # completing has not started one
    with zmesh.connect("code"), zmesh.connect("browser"):
        assert completed(laptop, "send", "c") == ["code@laptop"]
        assert completed(laptop, "ask", "C") == ["code@laptop"]
        assert completed(laptop, "inbox", "--as", "b") == ["browser"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_is_printed(laptop: Machine, shell: str) -> None:
    said = laptop.run("completion", shell)
    assert (said.returncode, said.stderr) == (0, "")
    assert f"_ZMESH_COMPLETE={shell}_complete" in said.stdout
    assert laptop.run("completion", SHELL=f"/usr/bin/{shell}").stdout == said.stdout
    assert "say for which shell" in laptop.fails(2, "completion", SHELL="/bin/csh")
