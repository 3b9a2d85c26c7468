"""A new user's first minutes, typed as the README shows them: two machines, a code, a message. Nothing else is done.

What is typed is taken from the README itself. The command is installed on each machine as `make install` would do it,
but for the packages, which the tests have already.
"""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mesh.lan import Machine, lan

pytestmark = pytest.mark.network

ROOT = Path(__file__).parents[2]
SECONDS = 60.0
CODE = "7-lantern-clover"  # in the README
TYPED = 200.0  # characters a minute of somebody who types slowly: 40 words


def blocks() -> list[list[str]]:
    """The commands of each block below the heading, without what is said about them."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme[readme.index("\n## Two machines") :].split("\n## ", 2)[1]
    found = re.findall(r"^```\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return [[re.sub(r"\s+#.*", "", line) for line in block.splitlines()] for block in found]


class Person:
    """Somebody at one of the machines, with a home of their own; nothing of zmesh is set for them."""

    def __init__(self, machine: Machine, root: Path) -> None:
        """Sit down."""
        self._machine, self._running = machine, list[subprocess.Popen[str]]()
        self.home = root / f"home-{machine.name}"
        (self.home / ".local" / "bin").mkdir(parents=True)
        program = self.home / ".local" / "bin" / "zmesh"
        program.write_text(
            f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -m zmesh "$@"\n'
        )
        program.chmod(0o755)

    def types(self, command: str) -> subprocess.Popen[str]:
        """Start a command as it is typed into a shell of this machine."""
        path = f"{self.home}/.local/bin:{os.environ['PATH']}"
        line = f"hostname {self._machine.name} && {command}"
        process = subprocess.Popen(
            ["ip", "netns", "exec", self._machine.namespace, "unshare", "--uts", "sh", "-c", line],
            env={"HOME": str(self.home), "PATH": path, "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"}, cwd=self.home,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        self._running.append(process)
        return process

    def leaves(self) -> None:
        """End what still runs."""
        for process in self._running:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@contextlib.contextmanager
def people(root: Path, *names: str) -> Iterator[list[Person]]:
    """Somebody at each of these machines."""
    with lan(root, *names) as network, contextlib.ExitStack() as stack:
        found = []
        for machine in network.machines:
            found.append(Person(machine, root))
            stack.callback(found[-1].leaves)
        yield found


def shown(process: subprocess.Popen[str], pattern: str) -> str:
    """Read on until something is shown; return it."""
    assert process.stdout is not None
    for line in process.stdout:
        if found := re.search(pattern, line):
            return found[0]
    raise AssertionError(f"{pattern} is never shown")


def ended(process: subprocess.Popen[str]) -> str:
    """What a command printed that has ended well."""
    output, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, output
    return output


def test_from_nothing_to_a_message_on_the_other_machine(tmp_path: Path) -> None:
    install, one, other = blocks()
    assert [line.split()[0] for line in install] == ["git", "make"]
    invite, follow = one
    join, send = other
    with people(tmp_path, "laptop", "studio") as (laptop, studio):
        inviting = laptop.types(invite)
        code = shown(inviting, r"zmesh join \S+").removeprefix("zmesh join ")
        joined = ended(studio.types(join.replace(CODE, code)))
        invited = ended(inviting)
        fingerprint = re.search(r"(?:\w{4}-){8}\w", joined)
        assert fingerprint is not None
        assert fingerprint[0] in invited, "both show the same"
        following = laptop.types(follow)
        assert "bob@laptop" in ended(studio.types(send))
        assert shown(following, "hello") == "hello"
        for person in (laptop, studio):
            assert ended(person.types("zmesh status"))
            ended(person.types("zmesh down"))
    typed = sum(len(line) for line in [*install, *install, *one, *other])
    assert typed / TYPED < 2, "minutes of typing"


def test_a_message_that_is_sent_before_the_other_is_there_waits_for_it(tmp_path: Path) -> None:
    """As the README says of a machine that is switched off."""
    _, (invite, follow), (join, send) = blocks()
    with people(tmp_path, "laptop", "studio") as (laptop, studio):
        inviting = laptop.types(invite)
        code = shown(inviting, r"zmesh join \S+").removeprefix("zmesh join ")
        ended(studio.types(join.replace(CODE, code)))
        ended(inviting)
        ident = (
            ended(studio.types(send)).splitlines()[-1].split()[0]
        )  # nobody has opened a mailbox there, nor is the daemon up
        ended(studio.types("zmesh down"))
        following = laptop.types(follow)
        assert ended(studio.types(f"zmesh wait {ident} --timeout 60s"))
        assert shown(following, "hello") == "hello"
        for person in (laptop, studio):
            ended(person.types("zmesh down"))
