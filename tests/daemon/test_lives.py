"""What is remembered of messages: in order, bounded, and nothing that another peer only claims."""

from zmesh.daemon.lives import MAX_LIVES, MAX_STEPS, Lives
from zmesh.protocol.effects import Progress
from zmesh.protocol.states import Sent

ID, STUDIO, OTHER = bytes(16), b"s" * 16, b"o" * 16


def lives() -> Lives:
    """Ones whose clock goes on by a second at each look."""
    ticks = iter(range(1_000_000))
    return Lives(lambda: float(next(ticks)))


def test_steps_come_with_their_ages() -> None:
    seen = lives()
    seen.began(ID, "given")
    seen.progressed(Progress(ID, Sent.STORED, "", STUDIO))
    seen.progressed(Progress(ID, Sent.HANDLED, "", OTHER))  # who was not sent it
    assert seen.seen(ID, (b"", STUDIO)) == [("given", 3.0), ("stored", 2.0)]
    assert seen.seen(ID, (OTHER,)) == [("handled", 2.0)]


def test_of_two_messages_with_one_id_each_has_its_own_life() -> None:
    seen = lives()
    seen.began(ID, "taken", STUDIO)
    seen.began(ID, "taken", OTHER)
    seen.began(ID, "done", OTHER)
    assert [what for what, _ in seen.seen(ID, (STUDIO,))] == ["taken"]
    assert [what for what, _ in seen.seen(ID, (OTHER,))] == ["taken", "done"]
    assert seen.seen(ID, (b"",)) == []


def test_what_others_say_of_a_message_that_did_not_begin_here_is_not_kept() -> None:
    seen = lives()
    seen.progressed(Progress(ID, Sent.STORED, "", STUDIO))
    assert seen.seen(ID, (b"", STUDIO)) == []


def test_both_bounds_hold() -> None:
    seen = lives()
    for _ in range(2 * MAX_STEPS):
        seen.began(ID, "taken")
        seen.progressed(Progress(ID, Sent.STORED, "", STUDIO))
    assert len(seen.seen(ID, (b"", STUDIO))) == MAX_STEPS
    for number in range(1, MAX_LIVES + 1):
        seen.began(number.to_bytes(16, "big"), "given")
    assert seen.seen(ID, (b"", STUDIO)) == []
    assert seen.seen((1).to_bytes(16, "big"), (b"",)) != []
