"""What is remembered of messages: in order, bounded, and nothing that another peer only claims."""

from zmesh.daemon.lives import MAX_LIVES, MAX_STEPS, Lives
from zmesh.protocol.effects import Progress
from zmesh.protocol.states import Sent

ID, STUDIO, OTHER = bytes(16), b"s" * 16, b"o" * 16


def lives() -> Lives:
    """Ones whose clock goes on by a second at each look."""
    ticks = iter(range(1_000_000))
    return Lives(lambda: float(next(ticks)))


def test_steps_come_with_their_times() -> None:
    seen = lives()
    seen.began(ID, "given")
    seen.progressed(Progress(ID, Sent.STORED, "", STUDIO))
    seen.progressed(Progress(ID, Sent.HANDLED, "", OTHER))  # who was not sent it
    assert seen.steps(ID, STUDIO) == [{"at": 0.0, "what": "given"}, {"at": 1.0, "what": "stored"}]


def test_what_others_say_of_a_message_that_did_not_begin_here_is_not_kept() -> None:
    seen = lives()
    seen.progressed(Progress(ID, Sent.STORED, "", STUDIO))
    assert seen.steps(ID, STUDIO) == []


def test_both_bounds_hold() -> None:
    seen = lives()
    for _ in range(2 * MAX_STEPS):
        seen.began(ID, "taken")
        seen.progressed(Progress(ID, Sent.STORED, "", STUDIO))
    assert len(seen.steps(ID, STUDIO)) == MAX_STEPS
    for number in range(1, MAX_LIVES + 1):
        seen.began(number.to_bytes(16, "big"), "given")
    assert seen.steps(ID, STUDIO) == []
    assert seen.steps((1).to_bytes(16, "big"), STUDIO) != []
