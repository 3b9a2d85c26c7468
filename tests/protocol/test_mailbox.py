"""One mailbox: its quota, the order of what is ready, and what the roster says of it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zmesh.protocol.bounds import CLASSES, MAILBOX_BYTES, MAILBOX_MESSAGES
from zmesh.protocol.frames import AgentRecord
from zmesh.protocol.journal import InRow, PutMailbox
from zmesh.protocol.mailbox import ASKED, Holder, Mailbox
from zmesh.protocol.messages import InMessage
from zmesh.protocol.quotas import default_quotas

unhurried = settings(deadline=None)  # a busy machine is no reason to fail


def make(name: str = "code") -> Mailbox:
    return Mailbox(PutMailbox(name, "coder", ("python", "rust"), "zmesh"))


def message(row: int, klass: int) -> InMessage:
    return InMessage(InRow(row, row.to_bytes(16, "big"), b"s" * 16, "code", klass, 0, 0.0, None, 10))


def hold(mailbox: Mailbox, ident: int) -> Holder:
    holder = mailbox.holders[ident] = Holder(ident, mailbox)
    return holder


def test_it_begins_empty() -> None:
    mailbox = make()
    assert (mailbox.count, mailbox.size, mailbox.arriving, mailbox.fetching) == (0, 0, 0, False)
    assert mailbox.head() is None
    assert len(mailbox.ready) == CLASSES
    assert not mailbox.full(default_quotas(), 0)


def test_the_roster_says_what_it_is_and_whether_somebody_is_there() -> None:
    mailbox = make()
    assert mailbox.record == AgentRecord("code", "coder", ("python", "rust"), attached=False, project="zmesh")
    one, other = hold(mailbox, 1), hold(mailbox, 2)
    assert mailbox.record.attached
    one.here = False
    assert mailbox.record.attached  # the other is
    other.here = False
    assert not mailbox.record.attached


def test_it_is_busy_while_somebody_who_is_there_has_a_message() -> None:
    mailbox = make()
    one, other = hold(mailbox, 1), hold(mailbox, 2)
    seen = [mailbox.record.status]
    other.leases[1] = message(1, 0)
    seen.append(mailbox.record.status)
    other.here = False
    seen.append(mailbox.record.status)
    one.here = False
    seen.append(mailbox.record.status)
    assert seen == ["idle", "busy", "idle", "away"]


def test_the_latest_word_of_those_who_are_there_wins() -> None:
    mailbox = make()
    one, other = hold(mailbox, 1), hold(mailbox, 2)
    one.leases[1] = message(1, 0)
    seen = []
    for ident, word in [(1, "idle"), (2, "away"), (1, "busy"), (1, ""), (2, ""), (3, "away")]:
        mailbox.say(ident, word)
        seen.append(mailbox.record.status)
    assert seen == ["idle", "away", "busy", "away", "busy", "busy"], "a stranger has no word"
    other.here = False
    mailbox.say(2, "away")
    assert mailbox.record.status == "busy", "nor has who is gone"


def test_it_is_reached_as_who_came_last() -> None:
    mailbox = make()
    assert mailbox.record.reach == ""
    mailbox.holders[1] = Holder(1, mailbox)
    mailbox.holders[2] = Holder(2, mailbox, "push")
    assert mailbox.record.reach == "push"
    mailbox.holders[2].here = False
    assert mailbox.record.reach == "program"


def test_since_when_nobody_is_there() -> None:
    mailbox = make()
    assert (mailbox.absent, mailbox.row(9.0).seen) == (None, None)
    one = hold(mailbox, 1)
    assert (mailbox.absent, mailbox.row(9.0)) == (None, PutMailbox("code", "coder", ("python", "rust"), "zmesh", 9.0))
    one.here, mailbox.seen = False, 5.0
    assert (mailbox.absent, mailbox.row(9.0).seen) == (5.0, 5.0)


def test_who_waits_for_most_is_served_first_and_the_oldest_of_equals() -> None:
    mailbox = make()
    assert mailbox.taker(alone=False) is None
    idle, few, many, also_many = (hold(mailbox, ident) for ident in range(1, 5))
    few.demand, many.demand, also_many.demand = 1, 3, 3
    assert mailbox.taker(alone=False) is many
    many.demand = 2
    assert mailbox.taker(alone=False) is also_many
    assert idle.demand == 0


def test_a_suspect_message_goes_to_who_has_nothing_and_nothing_goes_beside_it() -> None:
    mailbox = make()
    busy, free = hold(mailbox, 1), hold(mailbox, 2)
    busy.demand, free.demand = 5, 1
    busy.leases[1] = message(1, 2)
    assert mailbox.taker(alone=False) is busy
    assert mailbox.taker(alone=True) is free
    busy.leases[1].suspect = True
    assert mailbox.taker(alone=False) is free
    free.demand = 0
    assert mailbox.taker(alone=False) is None


def test_it_is_busy_while_something_is_ready_or_on_its_way_to_the_disk() -> None:
    mailbox = make()
    seen = [mailbox.busy]
    mailbox.arriving = 1
    seen.append(mailbox.busy)
    mailbox.arriving = 0
    seen.append(mailbox.busy)
    mailbox.ready[CLASSES - 1].append(message(1, CLASSES - 1))
    seen.append(mailbox.busy)
    assert seen == [False, True, False, True]


@pytest.mark.parametrize(
    ("count", "size", "more", "full"),
    [
        (MAILBOX_MESSAGES - 1, 0, 1, False),
        (MAILBOX_MESSAGES, 0, 0, True),
        (MAILBOX_MESSAGES + 1, 0, 0, True),
        (0, MAILBOX_BYTES - 10, 10, False),
        (0, MAILBOX_BYTES - 10, 11, True),
        (1, MAILBOX_BYTES, 0, False),
        (1, MAILBOX_BYTES, 1, True),
    ],
)
def test_it_is_full_at_its_quota_of_messages_or_bytes(count: int, size: int, more: int, full: bool) -> None:  # noqa: FBT001
    mailbox = make()
    mailbox.count, mailbox.size = count, size
    assert mailbox.full(default_quotas(), more) is full


@unhurried
@given(st.lists(st.integers(0, CLASSES - 1), max_size=30))
def test_the_urgent_come_first_and_a_class_keeps_its_order(classes: list[int]) -> None:
    mailbox = make()
    for row, klass in enumerate(classes):
        mailbox.ready[klass].append(message(row, klass))
    taken: list[tuple[int, int]] = []
    while (head := mailbox.head()) is not None:
        assert mailbox.head() is head  # looking takes nothing away
        taken.append((head.klass, head.row))
        mailbox.ready[head.klass].popleft()
    assert taken == sorted(taken)
    assert len(taken) == len(classes)


def test_a_holder_begins_without_demand_and_without_leases() -> None:
    mailbox = make()
    holder = hold(mailbox, 7)
    assert (holder.id, holder.mailbox, holder.here, holder.demand, holder.leases) == (7, mailbox, True, 0, {})


@pytest.mark.parametrize("suspect", [True, False])
def test_a_holder_is_alone_with_a_message_whose_holder_went_away(suspect: bool) -> None:  # noqa: FBT001
    holder = hold(make(), 7)
    assert not holder.alone
    holder.leases[1] = message(1, 0)
    holder.leases[1].suspect = suspect
    assert holder.alone is suspect


def test_demand_is_given_back_only_to_who_still_waits() -> None:
    holder = hold(make(), 7)
    holder.demand = 2
    one, two, answer = message(1, 0), message(2, 0), message(3, 0)
    answer.claim = ASKED
    for each in (one, two, answer):
        holder.pay(each)
    assert holder.demand == 0
    holder.pay_back(one)
    holder.pay_back(answer)
    assert holder.demand == 1, "an answer that was asked for costs nothing"
    holder.withdraw()
    holder.pay_back(two)
    assert holder.demand == 0
