"""The store's clock: it never steps, whatever the clocks of the machine do."""

import time
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmesh.peer import clock
from zmesh.peer.clock import Sources, StoreClock, boot_id, machine_clocks, steady

YEAR = 366 * 86400.0


class Machine:
    """A machine whose clocks the test turns."""

    def __init__(self, uptime: float = 1000.0, wall: float = 1_800_000_000.0, boot: str = "first boot") -> None:
        self.uptime, self.wall, self.boot = uptime, wall, boot

    def passes(self, seconds: float) -> None:
        self.uptime += seconds
        self.wall += seconds

    def reboots(self, after: float, boot: str = "second boot") -> None:
        self.wall += after
        self.uptime, self.boot = 5.0, boot

    def clock(self, saved: bytes | None = None) -> StoreClock:
        return StoreClock(saved, Sources(lambda: self.uptime, lambda: self.wall, self.boot))


def test_a_new_store_begins_at_zero_and_goes_on_with_time() -> None:
    machine = Machine()
    new = machine.clock()
    assert new.now() == 0
    machine.passes(12.5)
    assert new.now() == 12.5


@pytest.mark.parametrize("step", [3600.0, -3600.0, 1e9, -1.8e9])
def test_whoever_sets_the_wall_clock_changes_nothing(step: float) -> None:
    machine = Machine()
    running = machine.clock()
    machine.passes(10)
    machine.wall += step
    assert running.now() == 10
    restarted = machine.clock(running.state())
    assert restarted.now() == 10
    machine.passes(1)
    assert restarted.now() == running.now() == 11


def test_a_restart_goes_on_exactly_however_old_the_saved_state_is() -> None:
    machine = Machine()
    running = machine.clock()
    saved = running.state()
    machine.passes(4321)  # and is killed before it saves again
    assert machine.clock(saved).now() == running.now() == 4321


def test_across_a_reboot_it_goes_on_by_the_wall_clock() -> None:
    machine = Machine()
    machine.passes(100)
    saved = machine.clock().state()
    before = machine.clock(saved).now()
    machine.reboots(after=30)
    assert machine.clock(saved).now() == pytest.approx(before + 30)


def test_across_a_reboot_it_never_goes_back() -> None:
    machine = Machine()
    running = machine.clock()
    machine.passes(100)
    saved = running.state()
    machine.reboots(after=-1e6)  # the battery of the clock is empty
    restarted = machine.clock(saved)
    assert restarted.now() == 100
    machine.passes(1)
    assert restarted.now() == 101


def test_an_absurd_absence_counts_as_a_year() -> None:
    machine = Machine()
    saved = machine.clock().state()
    machine.reboots(after=40 * YEAR)
    assert machine.clock(saved).now() == YEAR


def test_where_the_boot_has_no_name_the_wall_clock_tells_how_long_it_was() -> None:
    machine = Machine(boot="")
    saved = machine.clock().state()
    machine.passes(50)
    assert machine.clock(saved).now() == 50


def test_a_steady_clock_that_begins_again_within_a_boot_is_no_reason_to_go_back() -> None:
    machine = Machine()
    running = machine.clock()
    machine.passes(10)
    saved = running.state()
    machine.passes(20)
    machine.uptime = 1.0
    assert machine.clock(saved).now() == 30


@pytest.mark.parametrize(
    "saved",
    [
        b"",
        b"\xc1",
        b"damaged",
        msgpack.packb(None),
        msgpack.packb(7),
        msgpack.packb(("first boot", 1.0, 2.0)),
        msgpack.packb(("first boot", 1.0, 2.0, 3.0, 4.0)),
        msgpack.packb(("first boot", "x", 2.0, 3.0)),
        msgpack.packb(("first boot", 1.0, [], 3.0)),
        msgpack.packb(("first boot", float("nan"), 2.0, 3.0)),
        msgpack.packb(("first boot", 1.0, float("inf"), 3.0)),
        msgpack.packb(("first boot", 1.0, 2.0, float("nan"))),
        msgpack.packb(("first boot", 1.0, 2.0, -3.0)),
        msgpack.packb(("first boot", 1.0, 2.0, 1e300)),
    ],
)
def test_damaged_state_begins_a_new_clock(saved: bytes) -> None:
    machine = Machine()
    begun = machine.clock(saved)
    assert begun.now() == 0
    machine.passes(5)
    assert begun.now() == 5
    assert machine.clock(begun.state()).now() == 5


@given(st.binary())
def test_no_bytes_can_stop_it(saved: bytes) -> None:
    machine = Machine()
    begun = machine.clock(saved)
    before = begun.now()
    machine.passes(1)
    assert begun.now() == pytest.approx(before + 1)


MOMENTS = st.tuples(
    st.sampled_from(["passes", "step", "restart", "reboot"]), st.floats(0, 1e7), st.floats(-1e7, 1e7), st.booleans()
)


@given(st.lists(MOMENTS, max_size=30), st.sampled_from(["first boot", ""]))
def test_it_never_goes_back_behind_what_was_saved(moments: list[tuple[str, float, float, bool]], boot: str) -> None:
    machine = Machine(boot=boot)
    running = machine.clock()
    seen = running.now()
    saved, saved_at = running.state(), running.now()
    for number, (event, span, step, saves) in enumerate(moments):
        if event == "passes":
            machine.passes(span)
        elif event == "step":
            machine.wall += step
        else:
            if event == "reboot":
                machine.reboots(step, f"boot {number}" if boot else "")
            running = machine.clock(saved)
            seen = max(saved_at, seen if event == "restart" and boot else 0)
        assert running.now() >= seen - 1e-6
        seen = running.now()
        if saves or event in {"reboot", "restart"}:  # a peer writes its clock down when it starts, too
            saved, saved_at = running.state(), running.now()


def test_the_clocks_of_this_machine() -> None:
    sources = machine_clocks()
    assert abs(sources.wall() - time.time()) < 60
    assert sources.boot == boot_id() == machine_clocks().boot
    first = sources.steady()
    assert first <= sources.steady()
    running = StoreClock(None, sources)
    assert 0 <= running.now() < 60
    assert 0 <= StoreClock(running.state(), machine_clocks()).now() < 60


def test_where_the_system_has_less_it_makes_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    monkeypatch.setattr(clock, "_BOOT_ID", tmp_path / "there is none")
    assert steady() == pytest.approx(time.monotonic(), abs=60)
    assert boot_id() == ""


def test_the_state_is_small_and_readable() -> None:
    state: Any = msgpack.unpackb(Machine().clock().state())
    assert state == ["first boot", 1000.0, 1_800_000_000.0, 0.0]
