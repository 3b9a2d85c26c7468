"""The outgoing stream: numbers are given once, nothing is sent too early, what flies is accounted for."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from zmesh.protocol.bounds import (
    BATCH_BYTES,
    BATCH_MESSAGES,
    IN_FLIGHT_BYTES,
    MARK_AHEAD,
    MAX_BODY,
    NO_ID,
    WINDOW_MESSAGES,
)
from zmesh.protocol.frames import Ending, Item
from zmesh.protocol.journal import OutRow, OutStreamRow
from zmesh.protocol.messages import OutMessage
from zmesh.protocol.out_stream import ITEM_OVERHEAD, Batch, OutStream, Settlement
from zmesh.protocol.states import Sent

DEST = b"d" * 16
KLASS, EPOCH = 2, 1
PLENTY = IN_FLIGHT_BYTES
NOW = 50.0

unhurried = settings(deadline=None)  # a busy machine is no reason to fail


def ident(row: int) -> bytes:
    return row.to_bytes(16, "big")


def message(row: int, size: int = 10, *, state: Sent = Sent.QUEUED, deadline: float | None = None) -> OutMessage:
    """A message as it looks once it is committed, its body still in memory."""
    made = OutMessage(
        OutRow(row, ident(row), DEST, "a@b", KLASS, 0, 0, state, deadline, b"envelope", size), bytes(size)
    )
    made.committed = True
    return made


def add(stream: OutStream, *messages: OutMessage, handing_over: bool = True) -> None:
    for one in messages:
        stream.append(one, EPOCH, handing_over=handing_over)


def save(stream: OutStream) -> OutStreamRow:
    """Commit the stream's row."""
    row = stream.row(DEST, EPOCH)
    stream.saved(row)
    return row


def stream_of(count: int, size: int = 10) -> OutStream:
    """A stream on a link that is up, with so many messages on disk, none sent."""
    stream = OutStream(KLASS)
    stream.limit = WINDOW_MESSAGES
    add(stream, *(message(row, size) for row in range(1, count + 1)))
    save(stream)
    return stream


def ids(batch: Batch) -> list[bytes]:
    return [item.id for item in batch.items]


# --- numbers ----------------------------------------------------------------------------------------------------------


def test_numbers_begin_at_one_and_have_no_gaps() -> None:
    stream = OutStream(KLASS)
    messages = [message(row) for row in (7, 3, 9)]
    add(stream, *messages)
    assert [(one.number, one.epoch) for one in messages] == [(1, EPOCH), (2, EPOCH), (3, EPOCH)]
    assert stream.row(DEST, EPOCH) == OutStreamRow(DEST, KLASS, EPOCH, 4, 0, 0, NO_ID)
    assert stream.dirty


def test_a_number_is_not_given_again_when_its_message_is_taken_out() -> None:
    stream, one, other = OutStream(KLASS), message(1), message(2)
    add(stream, one)
    stream.void(one)
    add(stream, other)
    assert other.number == 2
    assert stream.entries == {2: other}


def test_only_the_message_at_a_number_can_be_taken_out() -> None:
    stream = stream_of(1)
    stranger = message(9)
    stranger.number = 1
    with pytest.raises(AssertionError):
        stream.void(stranger)


def test_a_stream_goes_on_where_its_row_ended() -> None:
    stream = OutStream(KLASS, OutStreamRow(DEST, KLASS, EPOCH, next_number=9, mark=7, floor=5, floor_id=ident(5)))
    assert (stream.next_number, stream.mark, stream.saved_mark) == (9, 7, 7)
    assert (stream.floor, stream.saved_floor, stream.sent, stream.floor_id) == (5, 5, 5, ident(5))
    assert (stream.limit, stream.flying, stream.dirty, stream.fetching) == (0, 0, False, False)
    assert stream.row(DEST, EPOCH) == OutStreamRow(DEST, KLASS, EPOCH, 9, 7, 5, ident(5))


def test_after_a_restart_all_up_to_the_mark_may_have_been_sent() -> None:
    """The receiver may have taken it from the last process and commit it only now: its ACK breaks no rule."""
    before = stream_of(5)
    before.take(PLENTY, NOW)
    stream = OutStream(KLASS, before.row(DEST, EPOCH))
    stream.entries = before.entries
    assert stream.high == 5
    assert stream.sent == 0  # on this link nothing was
    assert [one.number for one in stream.settle(5, {})] == [1, 2, 3, 4, 5]


def test_what_the_receiver_can_name() -> None:
    stream = stream_of(4)
    stream.void(stream.entries[3])
    stream.take(PLENTY, NOW)
    stream.settle(1, {})
    assert [stream.id_at(number) for number in range(6)] == [None, ident(1), ident(2), NO_ID, ident(4), None]


# --- the mark ---------------------------------------------------------------------------------------------------------


def test_a_message_for_a_link_that_is_up_is_marked_in_its_own_commit() -> None:
    stream = OutStream(KLASS)
    stream.limit = 2
    add(stream, message(1), handing_over=False)
    assert stream.mark == 0
    add(stream, message(2))
    assert stream.mark == 2
    add(stream, message(3))  # beyond the credit: it may still expire for good
    assert stream.mark == 2


def test_nothing_is_taken_before_the_mark_is_saved() -> None:
    stream = OutStream(KLASS)
    stream.limit = WINDOW_MESSAGES
    add(stream, message(1))
    assert stream.take(PLENTY, NOW) == Batch(1, (), 0)
    assert stream.raise_mark()  # it is on its way already
    assert stream.mark == 1
    row = stream.row(DEST, EPOCH)
    add(stream, message(2))
    stream.saved(row)
    assert not stream.raise_mark()
    assert ids(stream.take(PLENTY, NOW)) == [ident(1)]
    assert stream.raise_mark()


@pytest.mark.parametrize(
    ("count", "limit", "mark"),
    [(5, WINDOW_MESSAGES, 5), (5, 3, 3), (MARK_AHEAD + 100, WINDOW_MESSAGES, MARK_AHEAD)],
)
def test_a_backlog_is_marked_in_steps_within_the_credit(count: int, limit: int, mark: int) -> None:
    stream = OutStream(KLASS)
    add(stream, *(message(row) for row in range(1, count + 1)), handing_over=False)
    stream.limit, stream.dirty = limit, False
    assert stream.raise_mark()
    assert (stream.mark, stream.dirty) == (mark, True)
    stream.dirty = False
    assert stream.raise_mark()  # asked again while the commit is open: nothing new
    assert (stream.mark, stream.dirty) == (mark, False)


def test_a_late_commit_takes_nothing_back() -> None:
    stream = stream_of(2)
    early = OutStreamRow(DEST, KLASS, EPOCH, 1, 0, 0, NO_ID)
    stream.saved(early)
    assert (stream.saved_mark, stream.saved_floor) == (2, 0)


# --- batches ----------------------------------------------------------------------------------------------------------


def test_a_batch_holds_the_messages_in_order_with_what_they_need() -> None:
    stream = OutStream(KLASS)
    stream.limit = WINDOW_MESSAGES
    add(stream, message(1, 3), message(2, 0, deadline=NOW + 1.5), message(3, 0, deadline=NOW - 1))
    save(stream)
    items = (
        Item(ident(1), None, b"envelope", bytes(3)),
        Item(ident(2), 1500, b"envelope", b""),
        Item(ident(3), 0, b"envelope", b""),
    )
    assert stream.take(PLENTY, NOW) == Batch(1, items, 3 + 3 * ITEM_OVERHEAD)
    assert [one.state for one in stream.entries.values()] == [Sent.SENT] * 3
    assert stream.flying == 3 + 3 * ITEM_OVERHEAD
    assert (stream.sent, stream.high) == (3, 3)
    assert stream.unconfirmed


def test_a_void_number_travels_empty_and_weighs_nothing() -> None:
    stream = stream_of(2)
    stream.void(stream.entries[1])
    assert stream.take(PLENTY, NOW).items[0] == Item(NO_ID, None, b"", b"")
    assert stream.flying == 10 + ITEM_OVERHEAD


def test_an_expiring_message_travels_empty_under_its_id() -> None:
    stream = stream_of(1)
    stream.entries[1].step("ttl, maybe sent")
    assert stream.take(PLENTY, NOW) == Batch(1, (Item(ident(1), None, b"", b""),), 0)
    assert stream.entries[1].state is Sent.EXPIRING


def test_an_expiring_message_in_doubt_travels_whole() -> None:
    stream = stream_of(1)
    stream.entries[1].step("ttl, maybe sent")
    stream.entries[1].doubt = True
    assert stream.take(PLENTY, NOW).items[0].envelope == b"envelope"
    assert stream.entries[1].state is Sent.EXPIRING


def test_a_batch_ends_at_its_number_of_messages() -> None:
    stream = stream_of(BATCH_MESSAGES + 3)
    assert len(stream.take(PLENTY, NOW).items) == BATCH_MESSAGES
    second = stream.take(PLENTY, NOW)
    assert (second.first, len(second.items)) == (BATCH_MESSAGES + 1, 3)


def test_a_message_larger_than_a_batch_travels_alone_and_waits_for_the_window_only() -> None:
    stream = stream_of(3, BATCH_BYTES + 1)
    assert [len(stream.take(PLENTY, NOW).items) for _ in range(4)] == [1, 1, 1, 0]
    stream = stream_of(2, BATCH_BYTES + 1)
    assert len(stream.take(1, NOW).items) == 1, "with nothing in flight any one may go"
    assert stream.take(BATCH_BYTES, NOW).items == ()


def test_a_batch_ends_at_its_bytes() -> None:
    stream = stream_of(10, BATCH_BYTES // 4)
    assert len(stream.take(PLENTY, NOW).items) == 3  # the overhead of the fourth does not fit


def test_one_message_larger_than_the_room_goes_alone_when_nothing_flies() -> None:
    stream = stream_of(2, MAX_BODY)
    assert ids(stream.take(-5, NOW)) == [ident(1)]
    assert stream.take(PLENTY, NOW) == Batch(2, (), 0)
    stream.settle(1, {})
    assert ids(stream.take(0, NOW)) == [ident(2)]


def test_a_large_message_waits_behind_small_ones_and_the_room() -> None:
    stream = stream_of(1)
    add(stream, message(2, MAX_BODY))
    save(stream)
    assert ids(stream.take(PLENTY, NOW)) == [ident(1)]
    assert ids(stream.take(PLENTY, NOW)) == []
    stream.settle(1, {})
    assert ids(stream.take(PLENTY, NOW)) == [ident(2)]


def test_a_batch_ends_before_what_is_not_committed() -> None:
    stream = stream_of(3)
    stream.entries[2].committed = False
    assert ids(stream.take(PLENTY, NOW)) == [ident(1)]
    assert stream.take(PLENTY, NOW) == Batch(2, (), 0)


def test_credit_bounds_a_batch_even_when_it_shrinks() -> None:
    stream = stream_of(5)
    stream.limit = 3
    assert (len(stream.take(PLENTY, NOW).items), stream.ready) == (3, False)
    stream.limit = 2
    assert (stream.take(PLENTY, NOW), stream.ready) == (Batch(4, (), 0), False)
    stream.limit = 5
    assert (len(stream.take(PLENTY, NOW).items), stream.ready) == (2, False)


# --- bodies that are not in memory ------------------------------------------------------------------------------------


def test_a_batch_ends_before_a_body_that_must_be_read_back() -> None:
    stream = stream_of(4)
    stream.entries[2].body = stream.entries[3].body = None
    assert stream.take(PLENTY, NOW).missing == ()
    batch = stream.take(PLENTY, NOW)
    assert (batch.items, batch.missing) == ((), (2, 3))
    stream.fetching = True
    assert not stream.ready
    stream.fetching = False
    stream.entries[2].body = stream.entries[3].body = b"back"
    assert ids(stream.take(PLENTY, NOW)) == [ident(2), ident(3), ident(4)]


def test_bodies_are_not_read_back_for_places_that_travel_empty() -> None:
    stream = stream_of(5)
    for number in (1, 3, 5):
        stream.entries[number].body = None
    stream.void(stream.entries[2])
    stream.entries[3].step("ttl, maybe sent")
    stream.entries[4].step("ttl, maybe sent")
    stream.entries[4].doubt = True
    stream.entries[4].body = None
    assert stream.take(PLENTY, NOW).missing == (1, 4, 5)


def test_bodies_are_read_back_up_to_the_next_one_in_memory_and_within_bounds() -> None:
    stream = stream_of(3)
    stream.entries[1].body = None
    stream.entries[2].committed = False
    assert stream.take(PLENTY, NOW).missing == (1,)
    stream = stream_of(10, BATCH_BYTES)
    for one in stream.entries.values():
        one.body = None
    assert stream.take(PLENTY, NOW).missing == (1, 2, 3, 4)


# --- again ------------------------------------------------------------------------------------------------------------


def test_a_rewind_sends_again_from_a_number() -> None:
    stream = stream_of(4)
    stream.take(PLENTY, NOW)
    stream.rewind(3)
    assert (stream.sent, stream.high, stream.flying) == (2, 4, 2 * (10 + ITEM_OVERHEAD))
    assert [one.state for one in stream.entries.values()] == [Sent.SENT, Sent.SENT, Sent.QUEUED, Sent.QUEUED]
    assert stream.take(PLENTY, NOW).first == 3


@pytest.mark.parametrize("number", [5, 6, 1 << 62])
def test_a_rewind_beyond_what_was_sent_changes_nothing(number: int) -> None:
    stream = stream_of(4)
    stream.take(PLENTY, NOW)
    stream.rewind(number)
    assert (stream.sent, stream.flying) == (4, 4 * (10 + ITEM_OVERHEAD))


def test_a_message_larger_than_a_batch_travels_alone_beside_what_flies_if_there_is_room() -> None:
    stream = stream_of(1)
    stream.take(PLENTY, NOW)
    add(stream, message(2, BATCH_BYTES + 1), message(3, 10))
    save(stream)
    assert stream.flying
    (alone,) = stream.take(4 * BATCH_BYTES, NOW).items
    assert alone.id == ident(2)
    assert [item.id for item in stream.take(4 * BATCH_BYTES, NOW).items] == [ident(3)]


def test_a_rewind_stops_at_the_floor() -> None:
    stream = stream_of(4)
    stream.take(PLENTY, NOW)
    stream.settle(2, {})
    stream.rewind(0)
    assert (stream.floor, stream.sent, stream.flying) == (2, 2, 0)
    assert stream.take(PLENTY, NOW).first == 3


def test_a_rewind_passes_over_void_and_expiring_numbers() -> None:
    stream = stream_of(3)
    stream.take(PLENTY, NOW)
    stream.void(stream.entries[1])
    stream.entries[2].step("ttl, maybe sent")
    stream.rewind(1)
    assert stream.entries[2].state is Sent.EXPIRING
    assert (stream.sent, stream.flying) == (0, 0)


def test_what_the_receiver_has_is_not_sent_again() -> None:
    stream = stream_of(4)
    stream.take(PLENTY, NOW)
    stream.rewind(0)
    stream.skip_to(3)
    assert stream.unconfirmed  # only the ACK that follows confirms it
    assert stream.take(PLENTY, NOW).first == 4
    stream.skip_to(1)
    assert stream.sent == 4


def test_the_receiver_has_nothing_that_was_never_handed_over() -> None:
    with pytest.raises(AssertionError):
        stream_of(4).skip_to(5)


def test_the_receiver_has_nothing_whose_hand_over_is_not_on_disk() -> None:
    stream = stream_of(4)
    stream.mark = 6  # wanted, and its commit is under way
    with pytest.raises(AssertionError):
        stream.skip_to(5)


# --- confirmation -----------------------------------------------------------------------------------------------------


def test_a_cursor_settles_all_up_to_it_each_in_its_way() -> None:
    stream = stream_of(4)
    stream.void(stream.entries[2])
    stream.take(PLENTY, NOW)
    refused = Ending(KLASS, 3, "refused", "no")
    one, three = stream.entries[1], stream.entries[3]
    stream.dirty = False
    assert stream.settle(3, {3: refused}) == [
        Settlement(1, one, None),
        Settlement(2, None, None),
        Settlement(3, three, refused),
    ]
    assert (stream.floor, stream.floor_id, stream.dirty) == (3, ident(3), True)
    assert stream.flying == 10 + ITEM_OVERHEAD
    assert stream.saved_floor == 0  # until the commit
    save(stream)
    assert stream.saved_floor == 3


@pytest.mark.parametrize("cursor", [0, 1, 2])
def test_a_cursor_is_settled_once(cursor: int) -> None:
    stream = stream_of(3)
    stream.take(PLENTY, NOW)
    stream.settle(2, {})
    stream.dirty = False
    assert stream.settle(cursor, {}) == []
    assert (stream.floor, stream.dirty) == (2, False)


def test_a_cursor_at_a_void_number_has_no_id() -> None:
    stream = stream_of(1)
    stream.void(stream.entries[1])
    stream.take(PLENTY, NOW)
    stream.settle(1, {})
    assert stream.floor_id == NO_ID


def test_an_ack_that_comes_after_a_rewind_counts() -> None:
    stream = stream_of(4)
    stream.take(PLENTY, NOW)
    stream.rewind(1)
    stream.settle(3, {})
    assert (stream.sent, stream.flying) == (3, 0)
    assert stream.take(PLENTY, NOW).first == 4


def test_a_cursor_beyond_what_was_sent_is_for_the_caller_to_refuse() -> None:
    with pytest.raises(AssertionError):
        stream_of(3).settle(1 << 62, {})


# --- the law ----------------------------------------------------------------------------------------------------------


class OutStreamLaw(RuleBasedStateMachine):
    """Any order of what a core does to a stream, within what the core checks, with restarts between."""

    def __init__(self) -> None:
        super().__init__()
        self.stream = OutStream(KLASS)
        self.rows = 0
        self.given: dict[int, bytes] = {}
        self.settled: list[int] = []
        self.disk = self.stream.row(DEST, EPOCH)

    @initialize(limit=st.integers(0, 40))
    def begin(self, limit: int) -> None:
        self.stream.limit = limit

    @rule(size=st.integers(0, MAX_BODY), handing_over=st.booleans(), committed=st.booleans())
    def append(self, size: int, handing_over: bool, committed: bool) -> None:  # noqa: FBT001
        self.rows += 1
        one = message(self.rows, size)
        one.committed = committed
        self.stream.append(one, EPOCH, handing_over=handing_over)
        assert one.number not in self.given
        self.given[one.number] = one.id

    @rule(limit=st.integers(0, 60))
    def credit(self, limit: int) -> None:
        self.stream.limit = limit

    @rule()
    def mark(self) -> None:
        if self.stream.ready:
            before = self.stream.mark, self.stream.saved_mark
            if self.stream.raise_mark():
                assert before[0] > before[1] or self.stream.mark > before[0]
            else:
                assert (self.stream.mark, self.stream.saved_mark) == before

    @rule()
    def commit(self) -> None:
        for one in self.stream.entries.values():
            one.committed = True
        self.disk = save(self.stream)

    @rule(room=st.integers(-100, PLENTY))
    def take(self, room: int) -> None:
        stream = self.stream
        sent, flying, limit, mark = stream.sent, stream.flying, stream.limit, stream.saved_mark
        batch = stream.take(room, NOW)
        count = len(batch.items)
        assert batch.first == sent + 1
        assert stream.sent == sent + count
        assert not count or stream.sent <= min(limit, mark)
        assert count <= BATCH_MESSAGES
        assert stream.flying == flying + batch.size
        whole = sum(1 for item in batch.items if item.envelope)
        # One that is larger than a batch travels alone; one that is larger than the room, too, if nothing flies.
        assert batch.size <= max(0, min(room, BATCH_BYTES)) or (whole == 1 and (flying == 0 or batch.size <= room))
        assert not batch.missing or not count
        for number, item in enumerate(batch.items, batch.first):
            one = stream.entries.get(number)
            assert item.id == (one.id if one else NO_ID)
            assert one is None or one.committed

    @rule(number=st.integers(0, 80))
    def rewind(self, number: int) -> None:
        self.stream.rewind(number)

    @precondition(lambda self: self.stream.saved_mark > 0)
    @rule(data=st.data())
    def skip(self, data: st.DataObject) -> None:
        self.stream.skip_to(data.draw(st.integers(0, self.stream.saved_mark)))

    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        floor = self.stream.floor
        cursor = data.draw(st.integers(0, self.stream.high))
        settled = self.stream.settle(cursor, {})
        assert [one.number for one in settled] == list(range(floor + 1, cursor + 1))
        for one in settled:
            assert one.message is None or one.message.id == self.given[one.number]
        self.settled += [one.number for one in settled]

    @precondition(lambda self: self.stream.entries)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.stream.entries)))
        one = self.stream.entries[number]
        if number <= self.stream.mark:
            if one.state is not Sent.EXPIRING:
                one.step("ttl, maybe sent")
        else:
            self.stream.void(one)

    @precondition(lambda self: self.stream.entries)
    @rule(data=st.data())
    def forget_body(self, data: st.DataObject) -> None:
        one = self.stream.entries[data.draw(st.sampled_from(sorted(self.stream.entries)))]
        one.body = None if one.body is not None else bytes(one.size)

    @rule()
    def restart(self) -> None:
        """What was committed with the row is there again; the states of the last process are not."""
        old, self.stream = self.stream, OutStream(KLASS, self.disk)
        self.given = {number: one for number, one in self.given.items() if number < self.disk.next_number}
        self.settled = [number for number in self.settled if number <= self.disk.floor]
        for number, one in old.entries.items():
            if self.disk.floor < number < self.disk.next_number:
                again = message(one.row, one.size, state=Sent.EXPIRING if one.state is Sent.EXPIRING else Sent.QUEUED)
                again.number, again.epoch = number, EPOCH
                self.stream.entries[number] = again

    @invariant()
    def the_marks_are_in_order(self) -> None:
        stream = self.stream
        assert stream.saved_floor <= stream.floor <= stream.sent <= stream.high <= stream.mark < stream.next_number
        assert stream.saved_mark <= stream.mark
        assert all(stream.floor < number < stream.next_number for number in stream.entries)

    @invariant()
    def what_flies_is_what_was_sent_and_is_not_confirmed(self) -> None:
        stream = self.stream
        assert stream.flying == sum(one.flying for one in stream.entries.values())
        assert all(one.flying == 0 for number, one in stream.entries.items() if number > stream.sent)
        assert all(one.state is not Sent.SENT for number, one in stream.entries.items() if number > stream.sent)

    @invariant()
    def every_number_is_settled_once_and_in_order(self) -> None:
        assert self.settled == sorted(set(self.settled))

    @invariant()
    def what_is_owed_is_named(self) -> None:
        stream = self.stream
        assert stream.unconfirmed == (stream.sent > stream.floor)
        for number in range(stream.floor + 1, stream.next_number):
            assert stream.id_at(number) in (self.given[number], NO_ID)


TestOutStreamLaw = OutStreamLaw.TestCase
TestOutStreamLaw.settings = settings(deadline=None, max_examples=60)


@unhurried
@given(st.lists(st.tuples(st.integers(0, MAX_BODY), st.booleans()), max_size=150), st.integers(0, PLENTY))
def test_everything_is_sent_once_in_order_whatever_the_room(sizes: list[tuple[int, bool]], room: int) -> None:
    stream = OutStream(KLASS)
    stream.limit = WINDOW_MESSAGES
    expected: list[bytes] = []
    for row, (size, void) in enumerate(sizes, 1):
        one = message(row, size)
        add(stream, one)
        if void:
            stream.void(one)
        expected.append(NO_ID if void else one.id)
    save(stream)
    sent: list[bytes] = []
    while stream.ready:
        batch = stream.take(max(0, room - stream.flying), NOW)
        sent += ids(batch)
        stream.settle(stream.sent, {})
        assert batch.items
    assert sent == expected
    assert stream.flying == 0
