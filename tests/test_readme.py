"""The README keeps its word: its programs run as they stand, its links lead somewhere, its words are those of the API.

What a reader would copy is taken from the text itself, so that the two cannot differ.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import click
import pytest

import zmesh
from tests.daemon_home import daemon_home, daemon_pid
from zmesh.cli.main import main
from zmesh.peer.configuration import load_configuration
from zmesh.protocol.states import Sent

__all__ = ["daemon_home"]

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))]

SECONDS = 60
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
PROMISED = [
    'async with zmesh.Peer("pipeline") as peer:                # embeds a whole peer in this process',
    'code = await peer.agent("code", role="coder", capabilities=["python"])',
    'receipt = await code.send("browser@studio", {"text": "Research OAuth 2.0"}, type="command",',
    'priority="high", ttl="7d")    # returns after the local fsync',
    "await receipt.stored(timeout=10)                       # in the recipient's durable inbox",
    "await receipt.handled(timeout=60)                      # the recipient is done with it",
    'answer = await code.ask("browser@studio", {"text":',
    "timeout=60)    # a Message",
    "await message.done(reply={",
    "# answers and finishes in one transaction",
]


def program(name: str) -> str:
    """The Python block that follows the line naming it."""
    found = re.findall(rf"^`{re.escape(name)}`[^\n]*:\n\n```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert len(found) == 1, f"{name}: {len(found)} programs"
    return str(found[0])


@contextmanager
def running(script: Path, home: Path) -> Iterator[subprocess.Popen[str]]:
    """A program as a reader would start it, ended when the test is."""
    environment = os.environ | {"ZMESH_HOME": str(home), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, script],
        env=environment,
        cwd=script.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=30)


@pytest.mark.parametrize("first", ["studio", "pipeline"])
def test_its_two_programs_talk_whichever_comes_first(first: str, tmp_path: Path) -> None:
    for name in ("studio", "pipeline"):
        (tmp_path / f"{name}.py").write_text(program(f"{name}.py"), encoding="utf-8")
    order = [first, *({"studio", "pipeline"} - {first})]
    scripts = [tmp_path / f"{name}.py" for name in order]
    home = tmp_path / "home"
    with running(scripts[0], home) as one, running(scripts[1], home) as other:
        pipeline, studio = (one, other) if first == "pipeline" else (other, one)
        printed, errors = pipeline.communicate(timeout=SECONDS)
        said = "looking for browser@studio\nbrowser@studio: I read the RFC.\n"
        assert (printed, errors, pipeline.returncode) == (said, "", 0)
        assert studio.stdout is not None
        heard = [studio.stdout.readline() for _ in range(2)]
        assert heard == ["code@pipeline: Research OAuth 2.0\n", "code@pipeline: And OpenID Connect?\n"]
        assert studio.poll() is None  # it goes on answering
        studio.send_signal(signal.SIGINT)
        assert studio.communicate(timeout=SECONDS) == ("", "")  # no traceback
        assert studio.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is sent in another way there")
def test_its_program_that_asks_waits_for_the_other_and_can_be_broken_off(tmp_path: Path) -> None:
    script = tmp_path / "pipeline.py"
    # A timeout that begins before the other is there would be over at once.
    script.write_text(program("pipeline.py").replace("timeout=10", "timeout=0.001"), encoding="utf-8")
    with running(script, tmp_path / "home") as pipeline:
        assert pipeline.stdout is not None
        assert pipeline.stdout.readline() == "looking for browser@studio\n"
        with pytest.raises(subprocess.TimeoutExpired):
            pipeline.wait(0.5)
        pipeline.send_signal(signal.SIGINT)
        assert pipeline.communicate(timeout=SECONDS) == ("", "")


def commands(heading: str) -> list[str]:
    """The first block of commands under a heading, without what is said about them."""
    found = re.search(rf"^### {re.escape(heading)}\n.*?^```\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return [re.sub(r"  +#.*", "", line) for line in found[1].splitlines()]


def shell(command: str, environment: dict[str, str], folder: Path) -> subprocess.Popen[str]:
    """A command as a reader would type it."""
    return subprocess.Popen(  # noqa: S602 - what the README tells its readers to type
        command, shell=True, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


@pytest.mark.skipif(sys.platform == "win32", reason="types into a Unix shell")
def test_its_commands_do_what_it_says_of_them(daemon_home: Path, tmp_path: Path) -> None:
    program_file = tmp_path / "bin" / "zmesh"
    program_file.parent.mkdir()
    program_file.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m zmesh "$@"\n')
    program_file.chmod(0o755)
    environment = os.environ | {"PATH": f"{program_file.parent}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    up, follow, *others = commands("From the command line")
    assert (up, follow) == ("zmesh up", "zmesh inbox --as bob --follow")
    (tmp_path / "studio.py").write_text(program("studio.py"), encoding="utf-8")
    following = None
    try:
        assert "laptop is up" in shell(up, environment, tmp_path).communicate(timeout=SECONDS)[0]
        following = shell(follow, environment, tmp_path)
        with zmesh.connect("watcher") as watcher:
            watcher.wait_for("bob@laptop", timeout=SECONDS)
        with running(tmp_path / "studio.py", daemon_home):
            with zmesh.connect("watcher") as watcher:
                watcher.wait_for("browser@studio", timeout=SECONDS)
            printed = {}
            for command in others:
                process = shell(command, environment, tmp_path)
                printed[command], errors = process.communicate(timeout=SECONDS)
                assert process.returncode == 0, (command, errors)
        os.killpg(following.pid, signal.SIGINT)
        heard, errors = following.communicate(timeout=SECONDS)
        assert [line.strip() for line in heard.splitlines() if line.strip() in ("hello", "done?")] == ["hello", "done?"]
        assert printed['zmesh ask --as ann browser@studio "And OpenID Connect?"'] == "I read the RFC.\n"
        assert "browser@studio" in printed["zmesh agents"]
        assert "linked     studio" in printed["zmesh status"]
        assert daemon_pid(daemon_home) == 0
    finally:
        if following is not None and following.poll() is None:
            os.killpg(following.pid, signal.SIGKILL)
            following.communicate()


def test_every_command_it_shows_is_one_and_has_these_options() -> None:
    root = click.Context(main, info_name="zmesh")
    guide = (ROOT / "docs" / "GUIDE.md").read_text(encoding="utf-8")
    shown = re.findall(r"^(?:.*\| )?zmesh ((?:--)?[a-z].*?)(?:  +#.*)?$", README + guide, re.MULTILINE)
    assert len(shown) > 35
    for line in shown:
        name, *words = shlex.split(line.partition(" # ")[0])
        command = main.get_command(root, name)
        context = click.Context(command, parent=root) if command is not None else root
        while isinstance(command, click.Group) and (words or not command.invoke_without_command):
            command = command.get_command(context, words.pop(0))
        assert command is not None, line
        known = {option for param in command.params for option in param.opts}
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known, line


def test_its_programs_run_on_its_machines() -> None:
    """A program whose peer is called as one of the machines would find that name taken by the machine's daemon."""
    guide = (ROOT / "docs" / "GUIDE.md").read_text(encoding="utf-8")
    programs = set(re.findall(r'zmesh\.Peer\("([\w-]+)"', README))
    machines = set(re.findall(r"── ?▶ \w+@(\w+)$|^name = \"(\w+)\"|host name is `(\w+)`", README + guide, re.MULTILINE))
    named = {name for found in machines for name in found if name}
    assert {"studio", "pipeline"} <= programs
    assert {"laptop", "tower"} <= named
    assert not programs & named


def test_settings_that_the_guide_shows_are_taken(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "GUIDE.md").read_text(encoding="utf-8")
    shown = re.findall(r"^```toml\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    assert len(shown) == 2
    (tmp_path / "config.toml").write_text("".join(shown), encoding="utf-8")
    (tmp_path / "config.toml").chmod(0o600)
    taken = load_configuration(tmp_path)
    assert (taken.name, taken.port, taken.discovery) == ("tower", 7420, ("rendezvous", "static"))


@pytest.mark.parametrize("line", PROMISED)
def test_it_shows_the_api_as_it_was_designed(line: str) -> None:
    assert line in README


def test_every_state_is_explained() -> None:
    table = README[README.index("| state | what was observed |") :].partition("\n\n")[0]
    explained = re.findall(r"^\| (\w+) \|", table, re.MULTILINE)
    assert explained == ["state", *(state.name.lower() for state in sorted(Sent))]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_relative_link_leads_to_a_file(document: str) -> None:
    path = ROOT / document
    links = LINK.findall(path.read_text(encoding="utf-8"))
    relative = [urlsplit(link) for link in links if not urlsplit(link).scheme]
    missing = [link.path for link in relative if link.path and not (path.parent / link.path).exists()]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_within_a_document_leads_to_a_heading(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    headings = {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    anchors = [link[1:] for link in LINK.findall(text) if link.startswith("#")]
    assert [anchor for anchor in anchors if anchor not in headings] == []


def test_every_make_target_it_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"\bmake ([a-z]+)\b(?= |`|\n)", README))
    assert "demo" in named
    assert [name for name in sorted(named) if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []
