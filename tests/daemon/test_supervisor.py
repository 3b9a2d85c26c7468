"""Looking after parts: what is restarted, and what is told."""

import asyncio
from collections.abc import Sequence

from tests.waiting import until
from zmesh.daemon import supervisor as module
from zmesh.daemon.health import FAILED_AFTER
from zmesh.daemon.supervisor import Supervisor


class Fake:
    """A part that is as the test says; restarting helps when `cured` is left."""

    def __init__(self, name: str, trouble: str | None = None, *, restarts: bool = True) -> None:
        self.name, self.trouble = name, trouble
        self.can_restart, self.restarted, self.cured = restarts, 0, False
        self.error: Exception | None = None

    async def look(self) -> str | None:
        if self.error is not None:
            raise self.error
        return self.trouble

    async def restart(self) -> bool:
        if not self.can_restart:
            return False
        self.restarted += 1
        if self.cured:
            self.trouble = None
        if self.error is not None:
            raise self.error
        return True


class Clock:
    """Time that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def supervise(parts: Sequence[Fake]) -> tuple[Supervisor, Clock]:
    clock = Clock()
    return Supervisor(parts, clock), clock


def health(supervisor: Supervisor) -> str:
    return supervisor.health.value


def test_all_is_well() -> None:
    async def scenario() -> None:
        supervisor, clock = supervise([Fake("store"), Fake("link")])
        assert health(supervisor) == "recovering"
        await supervisor.look()
        clock.now += 3
        assert health(supervisor) == "healthy"
        assert supervisor.report() == [
            {
                "part": name, "kind": "peer", "state": "healthy", "for": 3.0, "trouble": "", "restarts": 0,
                "says": "", "pid": None,
            }
            for name in ("store", "link")
        ]  # fmt: skip

    asyncio.run(scenario())


def test_a_part_is_restarted_until_it_works_and_the_others_are_let_be() -> None:
    async def scenario() -> None:
        link, store = Fake("link", "nothing listens"), Fake("store")
        supervisor, clock = supervise([link, store])
        await supervisor.look()
        assert (health(supervisor), link.restarted) == ("degraded", 0)
        while link.restarted < FAILED_AFTER:
            clock.now += 1
            await supervisor.look()
        await supervisor.look()
        assert health(supervisor) == "failed"
        assert supervisor.report()[0]["trouble"] == "nothing listens"
        link.cured = True
        while link.trouble:
            clock.now += 1
            await supervisor.look()
        assert health(supervisor) == "recovering"
        await supervisor.look()
        assert health(supervisor) == "healthy"
        assert store.restarted == 0

    asyncio.run(scenario())


def test_what_cannot_be_restarted_stays_degraded_and_comes_back_by_itself() -> None:
    async def scenario() -> None:
        disk = Fake("store", "the disk is full", restarts=False)
        supervisor, clock = supervise([disk])
        for _ in range(100):
            clock.now += 1
            await supervisor.look()
        assert health(supervisor) == "degraded"
        assert supervisor.report()[0]["restarts"] == 0
        disk.trouble = None
        await supervisor.look()
        assert health(supervisor) == "healthy"

    asyncio.run(scenario())


def test_an_error_in_a_look_or_a_restart_is_a_trouble_of_that_part_alone() -> None:
    async def scenario() -> None:
        odd, good = Fake("odd"), Fake("good")
        odd.error = ZeroDivisionError("odd")
        supervisor, clock = supervise([odd, good])
        for _ in range(5):
            clock.now += 1
            await supervisor.look()
        told = {one["part"]: one for one in supervisor.report()}
        assert "ZeroDivisionError" in told["odd"]["trouble"]
        assert told["good"]["state"] == "healthy"
        assert odd.restarted > 0

    asyncio.run(scenario())


def test_it_goes_on_looking_and_soon_again_when_something_is_wrong() -> None:
    async def scenario() -> None:
        part = Fake("link", "broken")
        part.cured = True
        supervisor = Supervisor([part])
        running = asyncio.ensure_future(supervisor.run())
        await until(lambda: health(supervisor) == "healthy", 20)
        assert part.restarted == 1
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert module.LOOK_AGAIN < module.LOOK_EVERY
    asyncio.run(scenario())
