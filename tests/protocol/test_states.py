"""The tables of states: closed, reachable, drawn in the specification as they are."""

from pathlib import Path
from typing import Any

import pytest

from zmesh.protocol.states import (
    LINK,
    RECEIVER,
    SENDER,
    SENDER_LIVE,
    Link,
    Received,
    Sent,
    diagram,
    diagrams,
    step,
)

SPECIFICATION = Path(__file__).parents[2] / "docs" / "PROTOCOL.md"
BEGIN, END = "<!-- diagrams: begin -->\n", "<!-- diagrams: end -->\n"
TABLES: dict[str, tuple[Any, dict[Any, dict[str, Any]], set[Any]]] = {
    "sender": (Sent, SENDER, {Sent.WAITING, Sent.QUEUED}),
    "receiver": (Received, RECEIVER, {Received.STORED}),
    "link": (Link, LINK, {Link.IDLE}),
}


@pytest.mark.parametrize("name", TABLES)
def test_every_state_has_its_row_and_leads_to_a_state(name: str) -> None:
    states, table, _ = TABLES[name]
    assert set(table) == set(states)
    assert all(isinstance(following, states) for row in table.values() for following in row.values())


@pytest.mark.parametrize("name", TABLES)
def test_every_state_can_be_reached(name: str) -> None:
    states, table, reached = TABLES[name]
    while following := {after for state in reached for after in table[state].values()} - reached:
        reached = reached | following
    assert reached == set(states)


@pytest.mark.parametrize("name", TABLES)
def test_a_step_is_a_transition_of_the_table(name: str) -> None:
    _, table, _ = TABLES[name]
    events = {event for row in table.values() for event in row}
    for state, row in table.items():
        for event in events:
            if event in row:
                assert step(table, state, event) is row[event]
            else:
                with pytest.raises(AssertionError, match=f"^{state.name} has no transition '{event}'$"):
                    step(table, state, event)


def test_the_states_are_stored_as_these_numbers() -> None:
    """They stand in databases: a number must never change its meaning."""
    assert [(s.name, s.value) for s in Sent] == [
        ("WAITING", 0),
        ("QUEUED", 1),
        ("SENT", 2),
        ("STORED", 3),
        ("HANDLED", 4),
        ("EXPIRING", 5),
        ("EXPIRED", 6),
        ("REFUSED", 7),
        ("DEAD", 8),
        ("LOST", 9),
    ]
    assert [(s.name, s.value) for s in Received] == [
        ("STORED", 0),
        ("LEASED", 1),
        ("HANDLED", 2),
        ("EXPIRED", 3),
        ("DEAD", 4),
    ]


def test_the_sender_has_something_to_do_exactly_before_stored_and_the_endings() -> None:
    assert {Sent.WAITING, Sent.QUEUED, Sent.SENT, Sent.EXPIRING} == SENDER_LIVE
    for state in set(Sent) - SENDER_LIVE:
        assert not set(SENDER[state].values()) & SENDER_LIVE


def test_stored_is_claimed_only_after_a_cursor_an_outcome_or_a_commit_here() -> None:
    claims = {event for row in SENDER.values() for event, after in row.items() if after is Sent.STORED}
    assert claims == {"cursor", "outcome", "stored here", "replayed"}


def test_handled_refused_and_expired_are_final() -> None:
    for state in (Sent.HANDLED, Sent.REFUSED, Sent.EXPIRED):
        assert SENDER[state] == {}
    for ending in (Received.HANDLED, Received.EXPIRED):
        assert RECEIVER[ending] == {}
    assert RECEIVER[Received.DEAD] == {"replayed": Received.STORED}


def test_once_it_may_have_been_sent_only_the_receiver_ends_it() -> None:
    for state in (Sent.SENT, Sent.EXPIRING):
        ends = {event for event, after in SENDER[state].items() if after is Sent.EXPIRED}
        assert "ttl" not in ends


def test_a_diagram_is_drawn_row_by_row() -> None:
    table = {Link.IDLE: {"dial": Link.DIALING}, Link.DIALING: {}, Link.GREETING: {}, Link.UP: {}}
    assert diagram("link", table) == "```mermaid\nstateDiagram-v2\n    %% link\n    IDLE --> DIALING: dial\n```"


def test_all_transitions_are_drawn() -> None:
    lines = [line.strip() for line in diagrams().splitlines() if "-->" in line]
    assert lines == [
        f"{state.name} --> {after.name}: {event}"
        for _, table, _ in TABLES.values()
        for state, row in table.items()
        for event, after in row.items()
    ]


def test_the_specification_shows_these_diagrams() -> None:
    _, begin, rest = SPECIFICATION.read_text(encoding="utf-8").partition(BEGIN)
    shown, end, _ = rest.partition(END)
    assert begin
    assert end
    assert shown.strip() == diagrams(), "put the output of `python -m zmesh.protocol.states` between the markers"
