"""What is known of one other store, and what is due to it."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.protocol.pair import DEVICE, SeededEntropy
from zmesh.protocol import remote as module
from zmesh.protocol.bounds import (
    CLASSES,
    ENDINGS_PER_ACK,
    IN_FLIGHT_BYTES,
    IN_FLIGHT_CRITICAL_BYTES,
    LINKS_REMEMBERED,
    MAX_BODY,
    NO_ID,
    WINDOW_MESSAGES,
)
from zmesh.protocol.frames import Ack, AgentRecord, Changes, Cursor, Ending, Fate, Outcome, Peers, Ping
from zmesh.protocol.journal import InStreamRow, OutRow, OutStreamRow, PutEnding, PutOutcome, PutPeer
from zmesh.protocol.messages import OutMessage
from zmesh.protocol.out_stream import ITEM_OVERHEAD
from zmesh.protocol.priority import Priority
from zmesh.protocol.remote import News, Remote, Roster
from zmesh.protocol.states import Sent

STORE = b"r" * 16
NOW = 50.0
CODE, BROWSER, SHELL = (AgentRecord(name) for name in ("code", "browser", "shell"))

unhurried = settings(deadline=None)  # a busy machine is no reason to fail


def ident(number: int) -> bytes:
    return number.to_bytes(16, "big")


def make() -> Remote:
    return Remote(STORE, DEVICE, "studio", SeededEntropy(0), NOW)


def bring_up(remote: Remote) -> None:
    remote.link.sighted(("tcp://studio:1",), NOW)
    remote.link.ready(NOW)
    remote.link.greeted(b"their-id", remote.link.id, NOW, up=True)


def load(remote: Remote, klass: int, count: int, size: int = 10) -> None:
    """Queue so many messages, committed and marked."""
    stream = remote.outs[klass]
    stream.limit = WINDOW_MESSAGES
    for _ in range(count):
        number = stream.next_number
        row = OutRow(number, ident(number), STORE, "a@b", klass, 0, 0, Sent.QUEUED, None, b"e", size)
        message = OutMessage(row, bytes(size))
        message.committed = True
        stream.append(message, remote.epoch, handing_over=True)
    stream.saved(stream.row(STORE, remote.epoch))


# --- the roster -------------------------------------------------------------------------------------------------------


def test_a_roster_of_one_page_counts_at_once() -> None:
    roster = Roster(0, (), NOW)
    assert roster.page(Peers(3, 0, 1, (CODE,)), NOW)
    assert (roster.version, roster.agents) == (3, {"code": CODE})


def test_a_roster_counts_only_when_all_its_pages_are_there() -> None:
    roster = Roster(2, [SHELL], NOW)
    assert not roster.page(Peers(3, 1, 2, (CODE,)), NOW)
    assert not roster.page(Peers(3, 1, 2, (CODE,)), NOW)  # the same again is no second page
    assert (roster.version, roster.agents) == (2, {"shell": SHELL})
    assert roster.page(Peers(3, 0, 2, (BROWSER,)), NOW)
    assert (roster.version, roster.agents) == (3, {"code": CODE, "browser": BROWSER})


def test_pages_of_two_versions_are_never_mixed() -> None:
    roster = Roster(0, (), NOW)
    assert not roster.page(Peers(3, 0, 2, (SHELL,)), NOW)
    assert not roster.page(Peers(4, 1, 2, (CODE,)), NOW)
    assert roster.page(Peers(4, 0, 2, (BROWSER,)), NOW)
    assert roster.agents == {"code": CODE, "browser": BROWSER}


def test_a_new_roster_replaces_the_old_one_even_with_a_lower_version() -> None:
    roster = Roster(9, [SHELL], NOW)  # its peer has restarted and counts from the beginning
    assert roster.page(Peers(1, 0, 1, (CODE,)), NOW)
    assert (roster.version, roster.agents) == (1, {"code": CODE})


def test_what_is_new_is_put_into_the_roster_that_is_there() -> None:
    roster = Roster(0, (), NOW)
    roster.page(Peers(3, 0, 1, (CODE, BROWSER)), NOW)
    agents = roster.agents
    busy = replace(CODE, attached=True, status="busy")
    assert roster.change(Changes(5, 3, (busy, SHELL)), NOW) == News(names=True, lasting=True, attached=True, any=True)
    assert (roster.version, roster.agents) == (5, {"code": busy, "browser": BROWSER, "shell": SHELL})
    assert roster.agents is agents, "whoever looks at it sees the new one"


@pytest.mark.parametrize(
    ("changes", "news"),
    [
        ({}, News(names=False, lasting=False, attached=False, any=False)),
        ({"status": "busy"}, News(names=False, lasting=False, attached=False, any=True)),
        ({"reach": "push"}, News(names=False, lasting=False, attached=False, any=True)),
        ({"attached": True}, News(names=False, lasting=False, attached=True, any=True)),
        ({"role": "coder"}, News(names=False, lasting=True, attached=False, any=True)),
        ({"project": "zmesh"}, News(names=False, lasting=True, attached=False, any=True)),
        ({"name": "other"}, News(names=True, lasting=True, attached=True, any=True)),
    ],
)
def test_it_says_how_far_what_is_new_goes(changes: dict[str, Any], news: News) -> None:
    agent = replace(CODE, **changes)
    assert Roster(1, [CODE], NOW).page(Peers(2, 0, 1, (agent,)), NOW) == news
    roster = Roster(1, [CODE], NOW)
    roster.page(Peers(2, 0, 1, (CODE, BROWSER)), NOW)
    assert roster.change(Changes(3, 2, (agent,)), NOW) == news


def test_a_mailbox_that_is_gone_is_news() -> None:
    news = Roster(1, [CODE, SHELL], NOW).page(Peers(2, 0, 1, (CODE,)), NOW)
    assert news == News(names=True, lasting=True, attached=True, any=True)


def test_the_first_roster_is_kept_even_when_it_is_empty() -> None:
    news = Roster(0, (), NOW).page(Peers(1, 0, 1, ()), NOW)
    assert news == News(names=False, lasting=True, attached=False, any=False)


def test_it_does_not_grow_beyond_what_a_store_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_AGENTS", 2)
    roster = Roster(1, [CODE, SHELL], NOW)
    assert roster.change(Changes(2, 1, (BROWSER,)), NOW) is None
    assert (roster.version, set(roster.agents)) == (1, {"code", "shell"})
    assert roster.change(Changes(2, 1, (replace(CODE, role="coder"),)), NOW) is not None


def test_when_somebody_was_seen_is_told_by_our_clock_alone() -> None:
    roster = Roster(0, (), NOW)
    roster.page(Peers(1, 0, 1, (replace(CODE, since_ms=3000), SHELL, replace(BROWSER, attached=True))), NOW)
    assert roster.seen == {"code": NOW - 3.0}
    assert roster.agents["code"] == CODE, "two of one version do not differ by when they were sent"
    roster.change(Changes(2, 1, (replace(CODE, attached=True), replace(BROWSER, since_ms=0))), NOW + 5)
    assert roster.seen == {"browser": NOW + 5}
    roster.page(Peers(3, 0, 1, (CODE,)), NOW)
    assert roster.seen == {}


def test_what_lasts_is_kept_with_when_somebody_was_seen() -> None:
    there = AgentRecord("code", "coder", ("python",), attached=True, project="zmesh", status="busy", reach="push")
    roster = Roster(0, (), NOW)
    roster.page(Peers(1, 0, 1, (there, replace(SHELL, since_ms=3000), BROWSER)), NOW)
    kept = roster.lasting(NOW + 2)
    assert kept == (
        AgentRecord("code", "coder", ("python",), project="zmesh", since_ms=0),
        replace(SHELL, since_ms=5000),
        BROWSER,
    )
    again = Roster(1, kept, NOW + 2)
    assert again.seen == {"code": NOW + 2, "shell": NOW - 3}
    assert Roster(1, roster.lasting(NOW - 10), NOW).seen["shell"] == NOW, "never in the future"


# --- restoring --------------------------------------------------------------------------------------------------------


def test_it_goes_on_with_what_the_store_kept() -> None:
    remote = make()
    remote.restore(
        PutPeer(STORE, "studio", DEVICE, ("tcp://studio:1",), 4, (CODE,), 1.0),
        [OutStreamRow(STORE, 1, 6, 9, 8, 7, ident(7))],
        [InStreamRow(STORE, 2, 5, 3, ident(3))],
        [PutEnding(STORE, 2, 3, "refused", "no"), PutEnding(STORE, 2, 1, "skipped", "")],
        [PutOutcome(5, STORE, ident(5), "handled", ""), PutOutcome(4, STORE, ident(4), "handled", "")],
    )
    assert remote.link.endpoints == ("tcp://studio:1",)
    assert (remote.roster.version, remote.roster.agents) == (4, {"code": CODE})
    assert (remote.epoch, remote.outs[1].floor, remote.outs[0].floor) == (6, 7, 0)
    assert (remote.source_epoch, remote.ins[2].cursor, remote.ins[0].cursor) == (5, 3, 0)
    assert remote.outcomes.base == 4
    assert remote.ack(NOW).endings == (Ending(2, 1, "skipped", ""), Ending(2, 3, "refused", "no"))
    assert (remote.link.heard, remote.written) == (1.0, 1.0)
    remote.link.hear(NOW)
    assert remote.row() == PutPeer(STORE, "studio", DEVICE, ("tcp://studio:1",), 4, (CODE,), NOW)
    assert remote.written == NOW


def test_a_store_known_only_by_its_streams_is_restored_too() -> None:
    remote = make()
    remote.restore(None, [], [], [], [])
    assert (remote.epoch, remote.source_epoch, remote.link.endpoints, remote.roster.agents) == (1, 0, (), {})
    assert remote.row() == PutPeer(STORE, "studio", DEVICE, (), 0, (), NOW)


# --- the window -------------------------------------------------------------------------------------------------------


def test_all_classes_but_critical_share_one_window() -> None:
    remote = make()
    for klass in (Priority.CRITICAL, Priority.HIGH, Priority.BULK):
        load(remote, klass, 1, 1000)
        remote.outs[klass].take(IN_FLIGHT_BYTES, NOW)
    assert remote.room(Priority.CRITICAL) == IN_FLIGHT_CRITICAL_BYTES - 1000 - ITEM_OVERHEAD
    for klass in (Priority.HIGH, Priority.NORMAL, Priority.LOW, Priority.BULK):
        assert remote.room(klass) == IN_FLIGHT_BYTES - 2 * (1000 + ITEM_OVERHEAD)


def test_a_full_window_stops_whoever_has_something_under_way() -> None:
    remote = make()
    load(remote, Priority.BULK, 2, MAX_BODY)
    assert remote.sendable() == [Priority.BULK]
    remote.outs[Priority.BULK].take(remote.room(Priority.BULK), NOW)
    assert remote.sendable() == []
    load(remote, Priority.HIGH, 2, MAX_BODY)
    load(remote, Priority.CRITICAL, 1)
    assert remote.sendable() == [Priority.CRITICAL, Priority.HIGH]  # one of each class always goes
    remote.outs[Priority.HIGH].take(remote.room(Priority.HIGH), NOW)
    assert remote.sendable() == [Priority.CRITICAL]


@unhurried
@given(st.lists(st.tuples(st.integers(1, CLASSES - 1), st.integers(0, MAX_BODY)), max_size=60))
def test_what_flies_is_bounded_whatever_is_queued(queued: list[tuple[int, int]]) -> None:
    remote = make()
    for klass, size in queued:
        load(remote, klass, 1, size)
    blocked: set[int] = set()
    while ready := [klass for klass in remote.sendable() if klass not in blocked]:
        klass = remote.scheduler.pick(ready)
        if not remote.outs[klass].take(remote.room(klass), NOW).items:
            blocked.add(klass)
    flying = sum(stream.flying for stream in remote.outs)
    assert flying <= IN_FLIGHT_BYTES + (CLASSES - 1) * (MAX_BODY + ITEM_OVERHEAD)
    assert all(stream.flying > 0 for stream in remote.outs if stream.entries)  # nobody starves


# --- links and epochs -------------------------------------------------------------------------------------------------


def test_it_is_up_when_its_link_is() -> None:
    remote = make()
    before = remote.up
    bring_up(remote)
    assert (before, remote.up) == (False, True)


def test_a_new_link_of_theirs_has_heard_nothing_of_ours() -> None:
    remote = make()
    remote.heard.accept(Outcome(1, 1, (Fate("handled", "", (ident(1),)),)))
    remote.heard.saved, remote.roster_fresh, remote.closed = 1, 7, True
    remote.new_link(b"new link")
    assert not remote.closed
    ack = remote.ack(NOW)
    assert (ack.outcomes, ack.roster, remote.heard.seen) == (0, 0, 0)


def test_so_many_link_ids_of_theirs_are_remembered_that_were_replaced() -> None:
    remote = make()
    links = [bytes([number]) * 8 for number in range(LINKS_REMEMBERED + 3)]
    for link in links:
        remote.new_link(link)
        remote.new_link(link)  # after a goodbye
    assert list(remote.replaced) == links[2:-1]


def test_it_is_greeted_when_all_that_came_on_its_earlier_links_is_on_disk() -> None:
    remote = make()
    said = [remote.may_greet]  # there is no connection
    bring_up(remote)
    said.append(remote.may_greet)
    stream = remote.ins[Priority.LOW]
    stream.advance(ident(1), None)
    said.append(remote.may_greet)
    remote.new_link(b"new link")
    said.append(remote.may_greet)
    stream.saved(stream.row(STORE, 1))
    said.append(remote.may_greet)
    assert said == [False, True, True, False, True]


def test_pages_of_two_links_are_never_mixed() -> None:
    """A process that starts again counts its versions from the beginning: an old page may have the same one."""
    remote = make()
    assert not remote.roster.page(Peers(2, 0, 2, (SHELL,)), NOW)
    remote.new_link(b"new link")
    assert not remote.roster.page(Peers(2, 1, 2, (CODE,)), NOW)
    assert remote.roster.page(Peers(2, 0, 2, (BROWSER,)), NOW)
    assert remote.roster.agents == {"code": CODE, "browser": BROWSER}


def test_a_new_link_of_ours_tells_everything_again() -> None:
    remote = make()
    load(remote, Priority.HIGH, 2)
    stream = remote.outs[Priority.HIGH]
    stream.take(IN_FLIGHT_BYTES, NOW)
    stream.fetching = True
    remote.outcomes.add(STORE, ident(1), "handled", "")
    remote.outcomes.committed = 1
    remote.outcomes.take()
    remote.roster_sent = 3
    remote.rewind_all()
    assert not remote.unconfirmed
    assert (stream.sent, stream.flying, stream.fetching) == (0, 0, False)
    assert stream.take(IN_FLIGHT_BYTES, NOW).first == 1
    assert remote.outcomes.take() is not None


def test_each_debt_of_theirs_is_unconfirmed() -> None:
    remote = make()
    load(remote, Priority.LOW, 1)
    seen = [remote.unconfirmed]  # what was not sent is no debt
    remote.outs[Priority.LOW].take(IN_FLIGHT_BYTES, NOW)
    seen.append(remote.unconfirmed)
    remote.outs[Priority.LOW].settle(1, {})
    seen.append(remote.unconfirmed)
    remote.roster_sent = 2
    seen.append(remote.unconfirmed)
    remote.roster_known = 2
    seen.append(remote.unconfirmed)
    remote.outcomes.add(STORE, ident(1), "handled", "")
    remote.outcomes.committed = 1
    remote.outcomes.take()
    seen.append(remote.unconfirmed)
    assert seen == [False, True, False, True, False, True]


def test_a_new_epoch_begins_with_the_full_window_and_is_persisted() -> None:
    remote = make()
    load(remote, Priority.HIGH, 2)
    remote.new_epoch(4)
    assert remote.epoch == 4
    for stream in remote.outs:
        assert (stream.next_number, stream.limit, stream.dirty, stream.entries) == (1, WINDOW_MESSAGES, True, {})


def test_a_new_epoch_of_theirs_begins_at_zero_and_is_persisted() -> None:
    remote = make()
    remote.ins[1].advance(ident(1), Ending(1, 1, "refused", ""))
    remote.ins[1].saved(remote.ins[1].row(STORE, 1))
    remote.new_source_epoch(6)
    assert remote.cursors() == (Cursor(0, NO_ID),) * CLASSES
    assert remote.limits() == (WINDOW_MESSAGES,) * CLASSES
    assert all(stream.dirty for stream in remote.ins)
    assert (remote.ack(NOW).epoch, remote.ack(NOW).endings) == (6, ())


# --- what is said -----------------------------------------------------------------------------------------------------


def receive(remote: Remote, klass: int, *, ended: int, stored: int = 0) -> None:
    stream = remote.ins[klass]
    for _ in range(ended):
        stream.advance(ident(stream.seen + 1), Ending(klass, stream.seen + 1, "refused", ""))
    for _ in range(stored):
        stream.advance(ident(stream.seen + 1), None)
    stream.saved(stream.row(STORE, 1))


def test_a_hello_says_where_the_streams_stand() -> None:
    remote = make()
    receive(remote, 3, ended=0, stored=2)
    assert remote.cursors() == (Cursor(0, NO_ID),) * 3 + (Cursor(2, ident(2)), Cursor(0, NO_ID))
    assert remote.limits() == (WINDOW_MESSAGES,) * 3 + (WINDOW_MESSAGES + 2, WINDOW_MESSAGES)


def test_an_ack_before_anything_was_received_says_so() -> None:
    zeros, window = (0,) * CLASSES, (WINDOW_MESSAGES,) * CLASSES
    assert make().ack(NOW) == Ack(0, zeros, window, (), (), 0, 0)


def test_an_ack_is_due_until_it_is_made() -> None:
    remote = make()
    remote.ack_due = True
    remote.ack(NOW)
    assert not remote.ack_due


def test_an_ack_names_only_as_far_as_its_endings_reach() -> None:
    remote = make()
    for klass in range(CLASSES):
        receive(remote, klass, ended=ENDINGS_PER_ACK, stored=1)
    ack = remote.ack(NOW)
    assert len(ack.endings) <= ENDINGS_PER_ACK
    for klass, cursor in enumerate(ack.cursors):
        assert {ending.number for ending in ack.endings if ending.klass == klass} == set(range(1, cursor + 1))
        assert cursor > 0


def test_an_ack_asks_for_a_rewind_once() -> None:
    remote = make()
    receive(remote, 2, ended=0, stored=3)
    remote.ins[2].expects(9)
    remote.ins[4].expects(2)
    assert remote.ack(NOW).rewinds == ((2, 4), (4, 1))
    assert remote.ack(NOW).rewinds == ()


def test_a_ping_names_what_was_sent_and_what_is_committed_as_confirmed() -> None:
    remote = make()
    load(remote, Priority.HIGH, 3)
    stream = remote.outs[Priority.HIGH]
    stream.take(IN_FLIGHT_BYTES, NOW)
    stream.settle(2, {})
    assert remote.ping(7) == Ping(1, (0, 3, 0, 0, 0), (0, 0, 0, 0, 0), 7)
    stream.saved(stream.row(STORE, 1))
    assert remote.ping(7) == Ping(1, (0, 3, 0, 0, 0), (0, 2, 0, 0, 0), 7)


@pytest.mark.parametrize("klass", range(CLASSES))
def test_streams_know_their_class(klass: int) -> None:
    remote = make()
    assert remote.outs[klass].klass == remote.ins[klass].klass == klass
