"""Mailboxes of their own: several programs in one folder, and what becomes of the mail of those that end."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

import zmesh
from tests.daemon_home import kill_daemon
from tests.waiting import until
from zmesh.daemon.own_mailboxes import OwnMailboxes

SOON = 20.0
ENDS = """
import os
import sys
import zmesh
client = zmesh.connect()
print(client.address, flush=True)
sys.stdin.readline()
client.take(1, timeout=20)
os._exit(9)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder, which is the current one."""
    project = tmp_path / "My API"
    (project / "src").mkdir(parents=True)
    (project / "pyproject.toml").touch()
    monkeypatch.chdir(project / "src")
    return project


def wait_for_mailboxes(client: zmesh.Client, *names: str) -> None:
    """Wait until the daemon has these mailboxes and no others."""
    import time  # noqa: PLC0415

    deadline = time.monotonic() + SOON
    while (there := sorted(agent["name"] for agent in client.agents())) != sorted(names):
        assert time.monotonic() < deadline, there
        time.sleep(0.01)


@pytest.mark.usefixtures("daemon_home", "folder")
def test_each_program_in_a_folder_has_one_of_its_own_and_the_mail_of_who_ends_comes_together() -> None:
    with zmesh.connect() as first, zmesh.connect("other") as other:
        with zmesh.connect() as second, zmesh.connect() as third:
            names = [client.address for client in (first, second, third)]
            assert names == ["my-api@laptop", "my-api.2@laptop", "my-api.3@laptop"]
            receipt = other.send("my-api.3", "unread")
            with zmesh.connect() as fourth:
                assert fourth.address == "my-api.4@laptop"
        wait_for_mailboxes(other, "my-api", "other")
        (message,) = first.poll(timeout=SOON)
        assert (message.id, message.body) == (receipt.id, "unread")
        with zmesh.connect() as again:
            assert again.address == "my-api.2@laptop"


@pytest.mark.usefixtures("daemon_home", "folder")
def test_what_a_killed_program_had_taken_comes_to_the_first_one() -> None:
    with zmesh.connect() as first, zmesh.connect("other") as other:
        ends = subprocess.Popen(
            [sys.executable, "-c", ENDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ
        )
        assert ends.stdin is not None
        assert ends.stdout is not None
        with ends:
            assert ends.stdout.readline() == "my-api.2@laptop\n"
            for number in range(3):
                other.send("my-api.2", number)
            ends.stdin.write("\n")
            ends.stdin.close()
            ends.wait(60)
        taken: list[object] = []
        while len(taken) < 3:
            taken += [message.body for message in first.poll(timeout=SOON)]
        assert sorted(map(str, taken)) == ["0", "1", "2"]


@pytest.mark.usefixtures("folder")
def test_a_program_keeps_its_own_when_the_daemon_is_killed(daemon_home: Path) -> None:
    with zmesh.connect() as first, zmesh.connect() as second:
        kill_daemon(daemon_home)
        second.send("my-api", "still here")
        assert second.address == "my-api.2@laptop"
        assert first.poll(timeout=SOON)[0].sender == "my-api.2@laptop"
        first.call("daemon.down")
        second.send("my-api", "and now")
        assert second.address == "my-api.2@laptop"


def test_what_nobody_comes_back_for_is_ended_by_the_next_daemon(home: Path) -> None:
    async def scenario() -> None:
        async with zmesh.Peer("laptop", home=home, discovery=[]) as peer:
            before = OwnMailboxes(peer)
            assert [before.claim("api") for _ in range(3)] == ["api", "api.2", "api.3"]
            agents = [await peer.attach(name) for name in ("api", "api.2", "api.3")]
            await agents[0].send("api.2", "unread")
            await agents[0].send("api.3", "kept")
            for agent in agents:
                await agent.detach()
        async with zmesh.Peer("laptop", home=home, discovery=[]) as peer:
            after = OwnMailboxes(peer)
            assert after.claim("api", "api.3") == "api.3"
            await after.end_forsaken(0.0)
            await until(lambda: "api.2" not in peer.driver.core.node.inbox.mailboxes)
            assert [message.body for message in await (await peer.agent("api")).poll()] == ["unread"]
            assert [message.body for message in await (await peer.agent("api.3")).poll()] == ["kept"]
            await after.close()
            after.release("api.3")
        async with zmesh.Peer("laptop", home=home, discovery=[]) as peer:
            assert OwnMailboxes(peer).claim("api", "other") == "api"
            assert {agent.name for agent in peer.agents()} == {"api", "api.3"}

    asyncio.run(scenario())


@pytest.mark.usefixtures("daemon_home", "folder")
def test_a_mailbox_that_somebody_made_by_its_name_is_never_taken_for_a_temporary_one() -> None:
    with zmesh.connect("my-api.2") as named:
        named.send("my-api.2", "mine")
    with zmesh.connect() as first, zmesh.connect() as second:
        assert (first.address, second.address) == ("my-api@laptop", "my-api.3@laptop")
    with zmesh.connect("my-api.2") as named:
        assert [message.body for message in named.poll(timeout=SOON)] == ["mine"]


@pytest.mark.usefixtures("daemon_home", "folder")
def test_the_environment_names_a_mailbox_that_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZMESH_AGENT", "shared")
    with zmesh.connect() as one, zmesh.connect() as two:
        assert one.address == two.address == "shared@laptop"
