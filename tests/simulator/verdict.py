"""The verdict: what must be true of every message when all faults are over and all is quiet.

Jepsen's total-queue: what went in must have come out, or its sender must know a truthful ending. This module only reads
the oracle's books.
"""

from tests.simulator.ledger import ENDED, OutRecord
from tests.simulator.log import Fact, Sending
from tests.simulator.oracle import Oracle
from zmesh.protocol.states import Received, Sent

RECEIVED_END = frozenset({Received.HANDLED, Received.EXPIRED, Received.DEAD})


def unended(oracle: Oracle) -> list[Sending]:
    """Return the settled sends that have not come to an end."""
    oracle.unended = [sending for sending in oracle.unended if not _ended(oracle, sending)]
    return oracle.unended


def _ended(oracle: Oracle, sending: Sending) -> bool:
    sent = oracle.ledgers[sending.source].out_ids.get(sending.id)
    if sent is None:
        return sending.id in oracle.histories[sending.source].forgotten
    if sent.state in ENDED:
        return True
    if sent.state is not Sent.STORED or sending.target is None:
        return False
    record = oracle.ledgers[sending.target].in_keys.get((oracle.processes[sending.source].device, sending.id))
    if record is None:
        # Its loss was found out, and forgotten: both disks went back.
        key = (oracle.processes[sending.source].device, sending.id)
        return key in oracle.histories[sending.target].vanished and oracle.rollbacks(sending.source) > 0
    # The outcome of a message that was handled in a past that one of the two has forgotten may not be told again.
    return record.state in RECEIVED_END and oracle.rollbacks(sending.source, sending.target) > 0


def open_inbox(oracle: Oracle) -> list[str]:
    """Return what lies in the inboxes and is not finished."""
    return [
        f"{ledger.name}/{record.mailbox} {record.id.hex()} {record.state.name} attempts {record.attempts}"
        for ledger in oracle.ledgers
        for record in ledger.ins.values()
        if record.state not in RECEIVED_END
    ]


def describe(oracle: Oracle, sending: Sending) -> str:
    """Say where a message stands, at both ends."""
    sent = oracle.ledgers[sending.source].out_ids.get(sending.id)
    here = f"{sent.state.name} at {sent.epoch}/{sent.number}" if sent else "not in the outbox"
    there = "nowhere"
    if sending.target is not None:
        record = oracle.ledgers[sending.target].in_keys.get((oracle.processes[sending.source].device, sending.id))
        there = record.state.name if record else "not in the inbox"
    name = oracle.ledgers[sending.source].name
    return f"{sending.id.hex()} {name} -> {sending.address} {sending.priority.name}: {here}, {there}"


def judge(oracle: Oracle) -> None:
    """Check what must be true when all is quiet.

    Raises:
        Violation: Something never ended, or ended untruly.
    """
    left = unended(oracle)
    if left:
        listed = "; ".join(describe(oracle, sending) for sending in left[:5])
        oracle.fail("liveness", f"{len(left)} sends never ended: {listed}")
    lying = open_inbox(oracle)
    if lying:
        oracle.fail("liveness", f"{len(lying)} messages were never finished: {'; '.join(lying[:5])}")
    for process in oracle.processes:
        oracle.compare(process)
    for sending in oracle.log.sendings.values():
        sent = oracle.ledgers[sending.source].out_ids.get(sending.id)
        oracle.totals[f"fact {sending.fact.value}"] += 1
        if sent is None:
            continue
        oracle.totals[f"state {sent.state.name}"] += 1
        if sending.fact is Fact.FAILED:
            oracle.fail(oracle.ledgers[sending.source].name, f"{sending.id.hex()} failed and is on disk")
        _judge(oracle, sending, sent)


def _judge(oracle: Oracle, sending: Sending, sent: OutRecord) -> None:
    """Check a message's ending against what its mailbox did with it."""
    if sending.target is None or sent.state is not Sent.EXPIRED:
        return
    key = (oracle.processes[sending.source].device, sending.id)
    history = oracle.histories[sending.target]
    if key in history.handled and key not in history.undone | history.vanished and not oracle.rollbacks(sending.source):
        oracle.fail(oracle.ledgers[sending.source].name, f"{sending.id.hex()} is called EXPIRED and was handled")
