"""What must hold after a storm on the daemon: its store and the programs' outside logs are compared.

Everything acknowledged is there and was handled; what was done was done once, and never came again.
"""

from collections import Counter, defaultdict
from pathlib import Path

from tests.daemon.storm.worker import ACTED, ANSWERED, LEASE_LOST, MAILBOX, PEER, PURGED, REPLY
from tests.storm.journal import DONE, GOT, SENT, read_lines
from tests.storm.verdict import Verdict, query
from zmesh.protocol.bounds import KEPT_ENDED, MAX_ATTEMPTS
from zmesh.protocol.states import Received, Sent

_ID = 32  # hexadecimal digits


def promised(logs: list[Path]) -> list[str]:
    """The ids of all sends that have returned."""
    lines = [words for log in logs for words in read_lines(log)]
    return [words[1] for words in lines if len(words) == 4 and words[0] == SENT and len(words[1]) == _ID]


def judge(home: Path, logs: list[Path]) -> Verdict:
    """Compare the store of a daemon that has ended with the logs of its programs."""
    verdict = Verdict()
    store = home / "peers" / PEER / "store.db"
    rows = query(store, "SELECT lower(hex(id)), mailbox, klass, state, attempts FROM inbox ORDER BY row")
    outbox = {ident: Sent(state) for ident, state in query(store, "SELECT lower(hex(id)), state FROM outbox")}
    assert max(len(rows), len(outbox)) < KEPT_ENDED, "more than a store remembers: make the storm shorter"
    states = {ident: (Received(state), attempts) for ident, mailbox, _, state, attempts in rows if mailbox == MAILBOX}
    verdict.totals["stored"] = len(states)
    counted = Counter(row[0] for row in rows)
    verdict.blame("ids are twice in an inbox", [ident for ident, count in counted.items() if count > 1])
    _judge_sends(verdict, logs, states, outbox)
    _judge_order(verdict, logs, [(ident, klass) for ident, mailbox, klass, *_ in rows if mailbox == MAILBOX])
    _judge_deliveries(verdict, logs, states)
    _judge_answers(verdict, logs)
    return verdict


def _judge_sends(
    verdict: Verdict, logs: list[Path], states: dict[str, tuple[Received, int]], outbox: dict[str, Sent]
) -> None:
    sends = promised(logs)
    verdict.totals["acknowledged"] = len(sends)
    verdict.blame("acknowledged sends are LOST", [ident for ident in sends if ident not in states])
    purged = any(words == [PURGED] for log in logs for words in read_lines(log))
    may_go = {ident for ident, (state, _) in states.items() if purged and state in {Received.HANDLED, Received.DEAD}}
    gone = [ident for ident in sends if ident not in outbox]
    verdict.totals["receipts purged"] = len(may_go.intersection(gone))
    verdict.blame("acknowledged sends are not in the outbox", [ident for ident in gone if ident not in may_go])
    verdict.blame("sends were acknowledged twice", [ident for ident, n in Counter(sends).items() if n > 1])
    ended = {ident: states[ident] for ident in sends if ident in states}
    dead = [ident for ident, (state, tried) in ended.items() if state is Received.DEAD and tried >= MAX_ATTEMPTS]
    verdict.totals["dead after all attempts"] = len(dead)
    open_ones = [
        f"{ident} {state.name} after {tried}"
        for ident, (state, tried) in ended.items()
        if state is not Received.HANDLED and ident not in dead
    ]
    verdict.blame("acknowledged sends are not handled", open_ones)


def _judge_order(verdict: Verdict, logs: list[Path], inbox: list[tuple[str, int]]) -> None:
    """What one program sent one after the other, within a class, is stored in that order."""
    place = {ident: number for number, (ident, _) in enumerate(inbox)}
    for log in logs:
        last: dict[str, int] = defaultdict(int)
        for words in read_lines(log):
            if len(words) == 4 and words[0] == SENT and words[2] not in {"any", "ask"} and words[1] in place:
                if place[words[1]] < last[words[2]]:
                    verdict.blame("messages overtook others", [words])
                last[words[2]] = place[words[1]]


def _judge_deliveries(verdict: Verdict, logs: list[Path], states: dict[str, tuple[Received, int]]) -> None:
    done: dict[str, list[int]] = defaultdict(list)
    got: dict[str, list[int]] = defaultdict(list)
    numbers: dict[str, set[str]] = defaultdict(set)
    for log in logs:
        sender = log.stem
        for words in read_lines(log):
            match words:
                case [kind, ident, when] if kind == DONE and len(ident) == _ID:
                    done[ident].append(int(when))
                case [kind, ident, _, number, when] if kind == GOT and len(ident) == _ID:
                    got[ident].append(int(when))
                    numbers[ident].add(number)
                case [kind, ident] if kind == LEASE_LOST and len(ident) == _ID:
                    verdict.totals["leases lost"] += 1
                case [kind, verb] if kind == ACTED:
                    verdict.totals[verb] += 1
                case _:
                    pass
        assert sender
    verdict.totals["deliveries"] = sum(map(len, got.values()))
    verdict.totals["done"] = len(done)
    verdict.blame("messages were done twice", [ident for ident, times in done.items() if len(times) > 1])
    again = [ident for ident, times in done.items() if max(got[ident], default=0) > min(times)]
    verdict.blame("messages were delivered after they were done", again)
    unknown = [ident for ident in done if states.get(ident, (None, 0))[0] is not Received.HANDLED]
    verdict.blame("messages were done and are not handled", unknown)


def _judge_answers(verdict: Verdict, logs: list[Path]) -> None:
    replies: dict[str, set[str]] = defaultdict(set)
    for log in logs:
        for words in read_lines(log):
            match words:
                case [kind, number, answer] if kind == ANSWERED:
                    verdict.totals["answers"] += 1
                    if int(answer) != -int(number):
                        verdict.blame("answers answer another question", [words])
                case [kind, ident, question] if kind == REPLY and len(question) == _ID:
                    replies[question].add(ident)
                case _:
                    pass
    verdict.totals["replies"] = len(replies)
    # One beside the end, and one that came when its asker had been killed.
    verdict.blame("messages have too many answers", [q for q, ids in replies.items() if len(ids) > 2])
