"""Who waits for which answer."""

from zmesh.protocol.expected import NOBODY, Expected

A, B = b"a" * 16, b"b" * 16


def test_one_answer_each_and_a_second_one_is_none() -> None:
    expected = Expected()
    expected.add(1, A)
    assert (expected.asker(A), expected.asker(B)) == (1, NOBODY)
    expected.take(A)
    assert expected.asker(A) == NOBODY
    expected.give_back(1, A)
    assert expected.asker(A) == 1


def test_who_has_given_up_is_not_made_to_wait_again() -> None:
    expected = Expected()
    expected.add(1, A)
    expected.remove(A)
    expected.give_back(1, A)
    assert expected.asker(A) == NOBODY


def test_an_answer_that_was_there_already_is_for_its_asker_until_it_is_taken() -> None:
    expected = Expected()
    expected.add(1, A)
    expected.add(2, B)
    expected.find(7, A)
    expected.find(8, B)
    assert [expected.finder(row) for row in (7, 8, 9)] == [1, 2, NOBODY]
    assert expected.found == (7, 8)
    expected.taken(7)
    assert (expected.finder(7), expected.asker(A)) == (NOBODY, NOBODY)
    expected.remove(B)
    assert expected.finder(8) == NOBODY
    expected.taken(8)
    expected.taken(9)
    assert expected.asker(B) == NOBODY
