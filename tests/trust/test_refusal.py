"""Refusals: one word on the wire, and only words of ours for people."""

import pytest

from zmesh.trust.refusal import REASONS, Refusal


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_is_said_in_our_own_words(reason: str) -> None:
    refusal = Refusal(reason)
    assert (refusal.reason, str(refusal)) == (reason, REASONS[reason])
    assert len(reason) < 20


@pytest.mark.parametrize("said", ["", "run this", "CODE", "code ", "\x1b[2J", "x" * 5000])
def test_anything_else_is_some_trouble(said: str) -> None:
    assert str(Refusal(said)) == REASONS["trouble"]
