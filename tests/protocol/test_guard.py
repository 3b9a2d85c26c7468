"""Without a guard everything is taken."""

from tests.protocol.pair import SeededEntropy
from tests.simulator.model import StoreModel
from zmesh.protocol.bounds import MAX_BODY
from zmesh.protocol.core import Core
from zmesh.protocol.envelope import Envelope
from zmesh.protocol.guard import UNGUARDED, Guard, Unguarded

ENVELOPE = Envelope("inbox", "code@laptop", "exec", b"", b"", 0, packed=False)


def test_nothing_is_refused_and_nothing_counted() -> None:
    for _ in range(3):
        assert UNGUARDED.refusal("d" * 32, ENVELOPE, MAX_BODY) is None
        assert UNGUARDED.charge("d" * 32, MAX_BODY, 0.0) is None


def test_a_core_asks_the_guard_it_was_given_or_none() -> None:
    def core(guard: Guard = UNGUARDED) -> Core:
        return Core(
            store=b"s" * 16,
            name="a",
            device="d" * 32,
            endpoints=(),
            entropy=SeededEntropy(1),
            snapshot=StoreModel().snapshot(),
            now=0.0,
            guard=guard,
        )

    mine = Unguarded()
    assert core(guard=mine).node.guard is mine
    assert core().node.guard is UNGUARDED
