"""Finding what an address means: never by guessing between two that match."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zmesh.errors import AmbiguousAddress, MeshError, UnknownAgent
from zmesh.protocol.address import Address, store_text
from zmesh.protocol.directory import Entry, Resolved, near_names, resolve, waiting_warning
from zmesh.protocol.frames import AgentRecord

unhurried = settings(deadline=None)  # a busy machine is no reason to fail


def entry(peer: str, *agents: str, live: bool = True, attached: tuple[str, ...] = (), store: int = 0) -> Entry:
    made = store or sum(peer.encode())
    records = {name: AgentRecord(name, attached=name in attached) for name in agents}
    return Entry(made.to_bytes(2, "big") * 8, peer, live, records)


def find(text: str, *entries: Entry) -> Resolved:
    return resolve(Address.parse(text), entries)


# --- a bare name ------------------------------------------------------------------------------------------------------


def test_a_bare_name_means_the_only_mailbox_of_that_name() -> None:
    studio = entry("studio", "browser")
    assert find("browser", entry("desk", "code"), studio) == Resolved(Address("browser", "studio"), studio, known=True)


@pytest.mark.parametrize("live", [True, False])
def test_the_only_one_is_meant_even_when_nobody_is_there(live: bool) -> None:  # noqa: FBT001
    studio = entry("studio", "browser", live=live)
    assert find("browser", studio).entry is studio


def test_of_several_the_only_attached_one_is_meant() -> None:
    studio = entry("studio", "browser", attached=("browser",))
    assert find("browser", entry("desk", "browser"), studio, entry("attic", "browser")).entry is studio


def test_a_mailbox_that_was_attached_when_its_peer_vanished_does_not_count_as_attached() -> None:
    studio = entry("studio", "browser", attached=("browser",))
    gone = entry("attic", "browser", live=False, attached=("browser",))
    assert find("browser", gone, studio).entry is studio


@pytest.mark.parametrize("attached", [(), ("browser",)])
def test_several_of_a_kind_are_a_riddle_and_the_error_lists_them(attached: tuple[str, ...]) -> None:
    one, other = entry("studio", "browser", attached=attached), entry("desk", "browser", attached=attached)
    with pytest.raises(AmbiguousAddress, match="2 peers have an agent 'browser'; say which one") as caught:
        find("browser", one, other)
    assert str(caught.value).endswith("say which one: browser@studio, browser@desk"), "as short as tells them apart"
    twin = entry("studio", live=False, store=300)
    with pytest.raises(AmbiguousAddress) as caught:
        find("browser", one, other, twin)
    assert str(caught.value).endswith(f"say which one: browser@{one.short}, browser@desk"), (
        "studio alone may be the twin"
    )


def test_the_error_lists_a_few_candidates_and_counts_the_rest() -> None:
    with pytest.raises(AmbiguousAddress) as caught:
        find("browser", *(entry(f"p{at}", "browser", store=at + 1) for at in range(11)))
    assert str(caught.value).count("browser@") == 8
    assert str(caught.value).endswith(" and 3 more")


def test_a_candidate_in_the_error_can_be_written_as_it_stands() -> None:
    twins = [entry("studio", "browser", store=store) for store in (300, 400)]
    with pytest.raises(AmbiguousAddress) as caught:
        find("browser", *twins)
    listed = str(caught.value).rpartition(": ")[2].split(", ")
    assert [find(text, *twins).entry for text in listed] == twins


def test_a_bare_name_nobody_has_is_an_error_with_near_names() -> None:
    with pytest.raises(UnknownAgent, match=r"'browse'.*did you mean browser\?.*browse@PEER"):
        find("browse", entry("studio", "browser", "code"))


def test_without_near_names_none_are_offered() -> None:
    with pytest.raises(UnknownAgent) as caught:
        find("browser", entry("studio", "zz"))
    assert "did you mean" not in str(caught.value)
    with pytest.raises(UnknownAgent):
        find("browser")


# --- a name and a peer ------------------------------------------------------------------------------------------------


def test_a_full_address_means_that_mailbox_whoever_else_has_the_name() -> None:
    studio = entry("studio", "browser")
    found = find("browser@studio", entry("desk", "browser", attached=("browser",)), studio)
    assert found == Resolved(Address("browser", "studio"), studio, known=True)


def test_a_mailbox_that_is_not_there_yet_is_waited_for() -> None:
    studio = entry("studio", "code")
    assert find("browser@studio", studio) == Resolved(Address("browser", "studio"), studio, known=False)


def test_a_peer_that_is_not_known_yet_is_waited_for() -> None:
    address = Address("browser", "attic")
    assert find("browser@attic", entry("studio", "browser")) == Resolved(address, None, known=False)


def test_a_peer_that_is_away_is_meant_all_the_same() -> None:
    studio = entry("studio", "browser", live=False)
    assert find("browser@studio", studio).entry is studio


# --- namesakes --------------------------------------------------------------------------------------------------------


def test_of_namesakes_the_one_that_is_there_is_meant() -> None:
    old, new = entry("studio", "browser", live=False, store=1), entry("studio", store=2)
    assert find("browser@studio", old, new) == Resolved(Address("browser", "studio"), new, known=False)


@pytest.mark.parametrize("live", [True, False])
def test_of_namesakes_the_only_one_with_the_mailbox_is_meant(live: bool) -> None:  # noqa: FBT001
    one, other = entry("studio", "code", live=live, store=1), entry("studio", "browser", live=live, store=2)
    assert find("browser@studio", one, other).entry is other


@pytest.mark.parametrize("agents", [(), ("browser",)])
def test_namesakes_that_all_have_it_or_all_lack_it_are_a_riddle(agents: tuple[str, ...]) -> None:
    twins = [entry("studio", *agents, store=store) for store in (1, 2)]
    with pytest.raises(AmbiguousAddress, match="2 peers are called 'studio'") as caught:
        find("browser@studio", *twins)
    for twin in twins:
        assert f"browser@{twin.short}" in str(caught.value)


def test_the_store_tells_namesakes_apart() -> None:
    twins = [entry("studio", "browser", store=store) for store in (300, 400)]
    for twin in twins:
        address = f"browser@studio~{store_text(twin.store)[:8]}"
        found = find(address, *twins)
        assert found.entry is twin
        assert str(found.address) == address


def test_a_store_that_is_not_known_is_waited_for_although_its_name_is() -> None:
    assert find("browser@studio~aaaa", entry("studio", "browser", store=300)).entry is None


def test_a_prefix_that_two_stores_share_is_a_riddle() -> None:
    twins = [Entry(bytes(15) + bytes([last]), "studio", live=True, agents={}) for last in (1, 2)]
    with pytest.raises(AmbiguousAddress):
        find("browser@studio~aaaa", *twins)


# --- words ------------------------------------------------------------------------------------------------------------


def test_near_names_are_at_most_three_best_first_each_once() -> None:
    assert near_names("coder", ["coder2", "code", "coder2", "codex", "coder3", "zebra"]) == ["coder3", "coder2", "code"]
    assert near_names("coder", []) == []


def test_a_warning_says_why_a_message_waits() -> None:
    assert waiting_warning(find("browser@attic")).startswith("no peer 'attic' is known yet: the message waits")
    studio = entry("studio", "browser")
    near = waiting_warning(find("browser@stduio", studio, entry("desk")))
    assert near.startswith("no peer 'stduio' is known yet (did you mean browser@studio?): the message waits")
    assert "did you mean browser@studio?" in waiting_warning(find("browse@studio", studio))
    assert waiting_warning(find("zz@studio", studio)).startswith(
        "'studio' has no mailbox 'zz' yet: the message waits until it appears"
    )


# --- the law ----------------------------------------------------------------------------------------------------------

words = st.sampled_from(["a", "b", "ab"])
entries = st.builds(
    Entry,
    store=st.sampled_from([bytes([n]) * 16 for n in range(1, 9)]),
    peer=words,
    live=st.booleans(),
    agents=st.dictionaries(words, st.booleans()).map(lambda d: {n: AgentRecord(n, attached=a) for n, a in d.items()}),
)
known_entries = st.lists(entries, max_size=6, unique_by=lambda one: one.store)


@unhurried
@given(known_entries, words, st.none() | words, st.randoms(use_true_random=False))
def test_an_answer_fits_the_question_and_the_order_of_stores_does_not_matter(
    stores: list[Entry], agent: str, peer: str | None, random: object
) -> None:
    def answer(listed: list[Entry]) -> object:
        try:
            return resolve(Address(agent, peer), listed)
        except MeshError as error:
            return type(error)

    found = answer(stores)
    random.shuffle(shuffled := list(stores))  # type: ignore[attr-defined]
    assert answer(shuffled) == found
    having = [one for one in stores if agent in one.agents and peer in (None, one.peer)]
    if isinstance(found, Resolved):
        assert peer in (None, found.address.peer)
        assert found.known == (found.entry is not None and agent in found.entry.agents)
        assert found.entry is None or found.entry.peer == found.address.peer
        if len(having) == 1 and peer is None:
            assert found.entry is having[0]
    elif found is UnknownAgent:
        assert peer is None
        assert not having
    else:
        assert found is AmbiguousAddress
        assert len([one for one in stores if peer in (None, one.peer)]) > 1
