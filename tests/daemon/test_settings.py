"""The settings of a running daemon: where they come from, what a change does, and what is refused."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

import zmesh
from tests.conftest import LOCAL
from zmesh.daemon import settings
from zmesh.daemon.administration import Administrator
from zmesh.daemon.place import place_of
from zmesh.daemon.settings import Settings
from zmesh.daemon.settings_file import changed
from zmesh.daemon.wishes import wishes
from zmesh.errors import ConfigurationError
from zmesh.peer.administration import Administration
from zmesh.peer.configuration import load_configuration

OWN = """\
discovery = ["rendezvous"]  # no multicast here
port = 7000

[folders]
"~/projects/api" = "backend"
"""


class Machine:
    """A peer with a configuration, and what an administrator asks of it."""

    def __init__(self, peer: zmesh.Peer, wished: tuple[str, ...] | None) -> None:
        self.peer, self.file = peer, peer.home / "config.toml"
        self.settings = Settings(peer, load_configuration(peer.home), wished)
        self.administrator = Administrator(peer, self.settings)

    async def ask(self, verb: str, **arguments: Any) -> Any:
        return await self.administrator.carry_out(f"admin.{verb}", arguments)

    async def told(self) -> dict[str, dict[str, Any]]:
        return {row.pop("key"): row for row in await self.ask("settings")}


def run(home: Path, scenario: Any, wished: tuple[str, ...] | None = None, text: str = OWN) -> None:
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(text)

    async def body() -> None:
        async with zmesh.Peer("laptop", home=home, bind=LOCAL, peers=wished) as peer:
            await scenario(Machine(peer, wished))

    asyncio.run(body())


def test_every_setting_is_told_with_where_it_comes_from(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZMESH_PEERS", "192.0.2.7")

    async def scenario(machine: Machine) -> None:
        told = await machine.told()
        port = int(machine.peer.endpoints[0].rpartition(":")[2])
        assert told["name"] == {"value": "laptop", "source": "default", "live": False}
        assert told["port"] == {"value": port, "source": "file", "live": False}
        assert told["peers"] == {"value": ["tcp://192.0.2.7:7420"], "source": "environment, ZMESH_PEERS", "live": True}
        assert told["discovery"] == {"value": ["rendezvous"], "source": "file", "live": True}
        assert told["quotas.mailbox.messages"] == {"value": 20_000, "source": "default", "live": True}
        assert told["folders.~/projects/api"] == {"value": "backend", "source": "file", "live": True}
        taken = await machine.ask("set", key="peers", value="192.0.2.9")
        assert (taken["effect"], taken["value"]) == ("environment, ZMESH_PEERS", ["192.0.2.9"])
        assert (await machine.told())["peers"]["value"] == ["tcp://192.0.2.7:7420"]

    run(home, scenario)


def test_what_was_said_when_it_was_brought_up_goes_before_the_file(home: Path) -> None:
    async def scenario(machine: Machine) -> None:
        wishes(place_of(home), ["--name", "laptop", "--peer", "192.0.2.7"])
        told = await machine.told()
        assert {told[key]["source"] for key in ("name", "peers")} == {"command line"}
        assert (await machine.ask("set", key="name", value="tower"))["effect"] == "command line"

    run(home, scenario, ("192.0.2.7",))


def test_a_change_is_written_taken_and_noted(home: Path) -> None:
    async def scenario(machine: Machine) -> None:
        before = machine.file.read_text()
        taken = await machine.ask("set", key="quotas.mailbox.messages", value="2")
        assert taken == {"key": "quotas.mailbox.messages", "value": 2, "effect": "now", "also": [], "restart": []}
        assert machine.peer.driver.core.node.quotas.mailbox_messages == 2
        assert machine.file.read_text() == f"{before}\n[quotas]\nmailbox.messages = 2\n"
        assert (await machine.told())["quotas.mailbox.messages"] == {"value": 2, "source": "file", "live": True}
        taken = await machine.ask("unset", key="quotas.mailbox.messages")
        assert (taken["effect"], taken["value"]) == ("now", None)
        assert machine.peer.driver.core.node.quotas.mailbox_messages == 20_000
        taken = await machine.ask("set", key="port", value="7002")
        assert (taken["effect"], taken["restart"]) == ("restart", ["port"])
        assert "another port" in machine.settings.stale
        assert (await machine.ask("set", key="port", value="7000"))["effect"] == "now"
        assert machine.settings.stale == ""
        assert (await machine.ask("set", key="folders./x", value="y"))["effect"] == "now"
        log = [line.text for line in await Administration(machine.peer).log()]
        assert log[0] == "somebody asks: key='quotas.mailbox.messages' value='2'"
        assert log[1].startswith("done: key='quotas.mailbox.messages' value=2 effect='now'")

    run(home, scenario)


def test_ways_of_looking_begin_and_end_while_it_runs(home: Path) -> None:
    async def scenario(machine: Machine) -> None:
        files = home / "rendezvous"
        own = list(files.iterdir())
        assert own
        assert (await machine.ask("set", key="discovery", value="static"))["effect"] == "now"
        assert not [path for path in own if path.exists()], "it is announced there no more"
        assert (await machine.ask("set", key="discovery", value="rendezvous,static"))["effect"] == "now"
        async with zmesh.Peer("studio", home=home, bind=LOCAL, discovery=["rendezvous"]) as studio:
            await studio.agent("browser")
            await machine.peer.wait_for("browser@studio", timeout=20)
        assert load_configuration(home).discovery == ("rendezvous", "static")

    run(home, scenario)


def test_what_was_changed_by_hand_before_is_told_when_it_is_taken(home: Path) -> None:
    async def scenario(machine: Machine) -> None:
        machine.file.write_text(OWN.replace("port = 7000", 'name = "tower"\nport = 7000\npeers = ["192.0.2.7"]'))
        taken = await machine.ask("set", key="quotas.peer.messages", value="9")
        assert (taken["also"], taken["restart"]) == (["peers"], ["name"])

    run(home, scenario)


@pytest.mark.parametrize(
    ("verb", "arguments", "words"),
    [
        ("set", {"key": "prot", "value": "7"}, "did you mean 'port'"),
        ("set", {"key": "port", "value": "70000"}, "no port"),
        ("set", {"key": "port", "value": "x"}, "no port"),
        ("set", {"key": "discovery", "value": "telepathy"}, "no list of some of"),
        ("set", {"key": "quotas.mailbox.messages", "value": "0"}, "from 1 to"),
        ("set", {"key": "quotas.mailbox.massages", "value": "5"}, "did you mean 'mailbox.messages'"),
        ("set", {"key": "folders.work", "value": "x"}, "no whole path"),
        ("set", {"key": "folders./x", "value": "x" * 65536}, "no agent name|longer than"),
        ("set", {"key": "", "value": "5"}, "no name of a setting"),
        ("unset", {"key": "peers"}, r"config\.toml does not say peers"),
        ("unset", {"key": "port.x"}, "does not say"),
    ],
)
def test_what_would_not_load_is_refused_and_nothing_is_written(
    home: Path, verb: str, arguments: dict[str, str], words: str
) -> None:
    async def scenario(machine: Machine) -> None:
        with pytest.raises(ConfigurationError, match=words):
            await machine.ask(verb, **arguments)
        assert machine.file.read_text() == OWN
        assert (await Administration(machine.peer).log())[-1].text.startswith("not done: ")

    run(home, scenario)
    assert [path.name for path in home.iterdir() if path.name.startswith(".config")] == []


def test_a_file_that_does_not_load_is_told_and_not_touched(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(machine: Machine) -> None:
        machine.file.write_text("port = [")
        for ask in (
            machine.ask("settings"),
            machine.ask("set", key="port", value="7"),
            machine.ask("unset", key="port"),
        ):
            with pytest.raises(ConfigurationError, match=r"config\.toml: "):
                await ask
        assert machine.file.read_text() == "port = ["
        assert (await machine.settings.reload())["trouble"]
        assert "is not used" in machine.settings.stale
        machine.file.write_text(OWN)
        monkeypatch.setenv("ZMESH_DISCOVERY", "telepathy")
        with pytest.raises(ConfigurationError, match="was written, and is not used: ZMESH_DISCOVERY"):
            await machine.ask("set", key="quotas.peer.messages", value="9")
        assert machine.peer.driver.core.node.quotas.peer_messages != 9, "all of it, or nothing"

    run(home, scenario)


def test_a_file_that_would_be_too_long_is_refused(home: Path) -> None:
    async def scenario(machine: Machine) -> None:
        with pytest.raises(ConfigurationError, match="would be longer than 65536"):
            await machine.ask("set", key="folders./x", value="y")

    run(home, scenario, text=OWN + "#" * (65536 - len(OWN) - 1) + "\n")


def test_what_adapters_are_told_is_nobodys_business(home: Path) -> None:
    """Their environments hold keys and passwords, which no list and no log may show."""
    taken: list[Any] = []

    async def scenario(machine: Machine) -> None:
        settings = Settings(machine.peer, load_configuration(home), None, taken.append)
        machine.administrator = Administrator(machine.peer, settings)
        told = await machine.ask("set", key="adapters.desk.command", value='["desk", "--quick"]')
        assert (told["effect"], told["value"]) == ("now", ["desk", "--quick"])
        told = await machine.ask("set", key="adapters.desk.environment.TOKEN", value="hush")
        assert (told["effect"], told["value"]) == ("now", "(not shown)")
        assert [adapter.environment for (adapter,) in taken] == [(), (("TOKEN", "hush"),)]
        rows = await machine.told()
        assert rows["adapters.desk.command"]["value"] == ["desk", "--quick"]
        assert rows["adapters.desk.environment.TOKEN"] == {"value": "(not shown)", "source": "file", "live": True}
        assert "hush" in machine.file.read_text()
        assert not [line for line in await Administration(machine.peer).log() if "hush" in line.text]
        assert (await machine.ask("unset", key="adapters.desk.environment.TOKEN"))["effect"] == "now"
        machine.file.chmod(0o666)
        with pytest.raises(ConfigurationError, match="others can change"):
            await machine.ask("set", key="adapters.desk.environment.TOKEN", value="hush")

    run(home, scenario)


def test_what_somebody_saves_while_a_setting_is_written_is_not_lost(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(machine: Machine) -> None:
        saved: list[str] = []

        def slow(text: str, path: Any, value: object) -> str:
            if not saved:
                saved.append(text.replace("port = 7000", "port = 7000  # mine"))
                machine.file.write_text(saved[0])  # an editor, just now
            return changed(text, path, value)

        monkeypatch.setattr(settings, "changed", slow)
        await machine.ask("set", key="quotas.mailbox.messages", value="500")
        assert machine.file.read_text().startswith(saved[0])
        assert (await machine.told())["quotas.mailbox.messages"]["value"] == 500

    run(home, scenario)


def test_a_setting_that_is_taken_out_again_after_a_restart_is_out(home: Path) -> None:
    async def scenario(machine: Machine) -> None:
        await machine.ask("set", key="quotas.mailbox.messages", value="500")
        await machine.ask("unset", key="quotas.mailbox.messages")
        told = await machine.ask("unset", key="quotas.mailbox.messages", again=True)
        assert (told["value"], told["effect"]) == (None, "now")
        with pytest.raises(ConfigurationError, match="does not say"):
            await machine.ask("unset", key="quotas.mailbox.messages")

    run(home, scenario)


def test_a_mark_of_the_byte_order_is_no_setting(home: Path) -> None:
    async def scenario(machine: Machine) -> None:
        machine.file.write_bytes(b"\xef\xbb\xbf" + OWN.encode())
        await machine.ask("set", key="quotas.mailbox.messages", value="500")
        assert (await machine.told())["port"]["source"] == "file"
        assert machine.file.read_text().startswith(OWN)

    run(home, scenario)
