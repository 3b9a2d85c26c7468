"""The records of messages under way: what they take over, and how an outgoing one changes its state."""

import pytest

from zmesh.protocol.journal import InRow, OutRow
from zmesh.protocol.messages import InMessage, OutMessage
from zmesh.protocol.states import SENDER, Received, Sent

IDENT, PLACE = b"i" * 16, b"s" * 16


def out_row(state: Sent = Sent.QUEUED, address: str = "code@studio") -> OutRow:
    return OutRow(3, IDENT, PLACE, address, 2, 4, 5, state, 99.5, b"envelope", 7)


def in_row() -> InRow:
    return InRow(3, IDENT, PLACE, "code", 2, 1, 12.5, 99.5, 7)


def test_an_outgoing_message_takes_over_its_row() -> None:
    message, row = OutMessage(out_row()), out_row()
    for name in ("row", "id", "dest", "address", "klass", "epoch", "number", "state", "deadline", "envelope", "size"):
        assert getattr(message, name) == getattr(row, name)


def test_an_incoming_message_takes_over_its_row() -> None:
    message, row = InMessage(in_row()), in_row()
    for name in ("row", "id", "source", "mailbox", "klass", "attempts", "due", "deadline", "size"):
        assert getattr(message, name) == getattr(row, name)
    assert message.state is Received.STORED
    assert message.holder == 0
    assert not message.finishing


def test_what_comes_from_the_store_is_committed_and_has_no_body_yet() -> None:
    sent, received = OutMessage(out_row()), InMessage(in_row())
    assert sent.committed
    assert received.committed
    assert sent.body is received.body is received.envelope is None


@pytest.mark.parametrize("body", [b"", b"hello"])
def test_what_comes_from_a_command_or_a_frame_is_not_committed_yet(body: bytes) -> None:
    sent, received = OutMessage(out_row(), body), InMessage(in_row(), b"envelope", body)
    assert not sent.committed
    assert not received.committed
    assert (sent.body, received.body, received.envelope) == (body, body, b"envelope")


def test_a_new_message_has_nothing_behind_it() -> None:
    message = OutMessage(out_row())
    assert (message.flying, message.refusals, message.empty) == (0, 0, False)


@pytest.mark.parametrize(("state", "event"), [(state, event) for state, row in SENDER.items() for event in row])
def test_an_outgoing_message_moves_along_the_table(state: Sent, event: str) -> None:
    message = OutMessage(out_row(state))
    message.step(event)
    assert message.state is SENDER[state][event]


def test_a_step_that_is_not_in_the_table_is_a_bug_and_changes_nothing() -> None:
    message = OutMessage(out_row(Sent.HANDLED))
    with pytest.raises(AssertionError, match="no transition 'ttl'"):
        message.step("ttl")
    assert message.state is Sent.HANDLED


@pytest.mark.parametrize("address", ["code@studio", "code@studio~abcd", "code"])
def test_the_mailbox_is_the_first_part_of_the_address(address: str) -> None:
    assert OutMessage(out_row(address=address)).mailbox == "code"


def test_a_record_holds_nothing_else() -> None:
    for message in (OutMessage(out_row()), InMessage(in_row())):
        with pytest.raises(AttributeError):
            message.other = 1  # type: ignore[union-attr]
