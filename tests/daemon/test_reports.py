"""What programs say of their own health: as long as they are connected, and no more of them than can be read."""

import asyncio
import os
from pathlib import Path

import pytest

import zmesh
from tests.daemon.served import SOON, Raw, serving
from tests.daemon_home import daemon_pid, kill_daemon
from tests.storm.processes import wait_until
from tests.waiting import until
from zmesh.daemon.health import Health
from zmesh.daemon.reports import MAX_REPORTS, MAX_TEXT, Reports, checked_report, trouble_of
from zmesh.errors import MeshFull


def said(reports: Reports, who: object, state: Health, text: str = "", **more: str) -> None:
    reports.say(who, state, text, name=more.get("name", "desk"), adapter=more.get("adapter", ""), pid=7)


def test_what_an_adapter_says_is_the_worst_of_what_it_says() -> None:
    reports = Reports()
    assert reports.of_adapter("desktop") is None
    said(reports, "a", Health.HEALTHY, "all is well", adapter="desktop")
    said(reports, "b", Health.DEGRADED, "no display", adapter="desktop")
    said(reports, "c", Health.FAILED, "of another one", adapter="clock")
    found = reports.of_adapter("desktop")
    assert found is not None
    assert (found.state, trouble_of(found)) == (Health.DEGRADED, "no display")
    reports.forget("b")
    found = reports.of_adapter("desktop")
    assert found is not None
    assert (found.state, found.text, trouble_of(found)) == (Health.HEALTHY, "all is well", "")
    reports.forget("a")
    reports.forget("a")
    assert reports.of_adapter("desktop") is None


def test_others_are_listed_under_their_own_names() -> None:
    now = [100.0]
    reports = Reports(lambda: now[0])
    said(reports, "a", Health.FAILED, adapter="desktop")
    said(reports, "b", Health.DEGRADED, "no tab", name="browser")
    said(reports, "c", Health.HEALTHY, name="gone", adapter="gone")
    now[0] += 5
    said(reports, "b", Health.DEGRADED, "no tab at all", name="browser")
    rows = {row["part"]: row for row in reports.of_others({"desktop"})}
    assert set(rows) == {"browser", "gone"}
    assert rows["browser"] == {
        "part": "browser", "kind": "client", "state": "degraded", "for": 5.0, "trouble": "no tab at all", "restarts": 0,
        "says": "no tab at all", "pid": 7,
    }  # fmt: skip
    said(reports, "b", Health.FAILED, name="browser")
    rows = {row["part"]: row for row in reports.of_others({"desktop"})}
    assert (rows["browser"]["for"], rows["browser"]["trouble"]) == (0.0, "it does not say why")


def test_too_many_are_told_so_and_those_that_are_there_may_go_on() -> None:
    reports = Reports()
    for number in range(MAX_REPORTS):
        said(reports, number, Health.HEALTHY)
    with pytest.raises(MeshFull, match=f"{MAX_REPORTS} programs report"):
        said(reports, "one more", Health.HEALTHY)
    said(reports, 0, Health.FAILED)
    reports.forget(1)
    said(reports, "one more", Health.HEALTHY)


@pytest.mark.parametrize(
    ("health", "text", "kind", "words"),
    [
        ("recovering", "", ValueError, "no health is called 'recovering'; choose one of healthy, degraded, failed"),
        (7, "", ValueError, "no health is called 7"),
        ("failed", 7, TypeError, "is a text, not 7"),
        ("failed", "x" * (MAX_TEXT + 1), ValueError, "at most 200 characters long, not 201"),
    ],
)
def test_what_cannot_be_said_is_told(health: object, text: object, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        checked_report(health, text)


def test_a_text_is_one_line() -> None:
    assert checked_report("failed", " no\n display\t") == (Health.FAILED, "no display")
    assert checked_report("healthy", "x" * MAX_TEXT) == (Health.HEALTHY, "x" * MAX_TEXT)


# --- at the daemon ---


def test_the_daemon_checks_what_it_is_told_and_forgets_who_has_gone(home: Path) -> None:
    async def scenario() -> None:
        async with serving(home) as (_, server, place):
            raw = await Raw.greeted(place, "desk", pid=7, adapter="desktop")
            assert (await raw.ask("report", {"health": "fine", "text": ""}))[1:3] == [1, "ValueError"]
            assert (await raw.ask("report", {"health": "failed"}))[1:3] == [1, "TypeError"]
            assert (await raw.ask("report", {"health": "failed", "text": "x"}))[1:] == [0, None]
            found = server.reports.of_adapter("desktop")
            assert found is not None
            assert (found.name, found.pid, found.text) == ("desk", 7, "x")
            other = await Raw.greeted(place, None)
            assert (await other.ask("report", {"health": "failed", "text": "x"}))[1:3] == [1, "DaemonError"]
            await raw.close()
            await until(lambda: server.reports.of_adapter("desktop") is None, SOON)

    asyncio.run(scenario())


def test_a_hello_may_bring_a_report_and_is_welcome_where_there_is_no_room_for_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zmesh.daemon.reports.MAX_REPORTS", 1)
    report = {"health": "degraded", "text": "x"}

    async def scenario() -> None:
        async with serving(home) as (_, server, place):
            for name in ("one", "two"):
                await Raw.greeted(place, name, adapter=7, report=report)
            assert [row["part"] for row in server.reports.of_others(())] == ["one"]

    asyncio.run(scenario())


def others(client: zmesh.Client) -> list[tuple[str, str, str, int]]:
    rows = client.call("daemon.status")["parts"]
    return [(row["part"], row["state"], row["says"], row["pid"]) for row in rows if row["kind"] == "client"]


def test_both_clients_report_for_as_long_as_they_are_connected_over_a_restart_of_the_daemon(daemon_home: Path) -> None:
    async def report() -> None:
        async with zmesh.connect_async("tab") as tab:
            await tab.report("failed", "gone")
            assert ("tab", "failed", "gone", os.getpid()) in others(code)

    with zmesh.connect("code") as code:
        with zmesh.connect("browser") as browser:
            browser.report("degraded", "no tab")
            assert others(code) == [("browser", "degraded", "no tab", os.getpid())]
            assert code.call("daemon.status")["health"] == "degraded"
            asyncio.run(report())
            before = daemon_pid(daemon_home)
            kill_daemon(daemon_home)
            wait_until(lambda: others(code), SOON, "it says so to the next daemon")
            assert daemon_pid(daemon_home) != before
            assert others(code) == [("browser", "degraded", "no tab", os.getpid())]
            browser.report("healthy", "three tabs")
            assert others(code) == [("browser", "healthy", "three tabs", os.getpid())]
            with pytest.raises(ValueError, match="no health is called 'fine'"):
                browser.report("fine")
        wait_until(lambda: not others(code), SOON, "it has gone, and so has its report")
