"""How much was received and is not on disk."""

from zmesh.peer.backlog import Backlog
from zmesh.protocol.bounds import UNCOMMITTED_BYTES

HALF = bytes(UNCOMMITTED_BYTES // 2)


def test_it_is_full_above_the_bound_until_enough_is_settled() -> None:
    backlog = Backlog()
    backlog.take([HALF, HALF])
    assert not backlog.submit(1)
    backlog.take([b"x"])
    assert backlog.submit(2), "too much"
    assert backlog.settle(1), "there is room again"
    assert not backlog.settle(2)
    assert not backlog.full


def test_each_byte_is_counted_once() -> None:
    backlog = Backlog()
    for token in range(10):
        backlog.take([HALF])
        backlog.submit(token)
        assert not backlog.submit(100 + token)
        assert not backlog.settle(100 + token)
        assert not backlog.settle(token)
        assert not backlog.settle(token)
    assert not backlog.full
