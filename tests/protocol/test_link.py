"""The link machine alone, and two of them joined by wires that lose, stick and break."""

from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from itertools import count, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.protocol.pair import SeededEntropy
from zmesh.protocol.bounds import (
    ABSENT_AFTER,
    ABSENT_REDIAL,
    ANSWER_AFTER,
    BYE_REDIAL,
    DIAL_PATIENCE,
    GREET_PATIENCE,
    HELLO_FIRST,
    HELLO_MAX,
    IDLE_PING,
    LINK_ID_BYTES,
    MAX_ENDPOINTS,
    OVERSLEPT,
    PING_FIRST,
    PING_MAX,
    REDIAL_FIRST,
    REDIAL_MAX,
    SILENCE,
    STALLED,
)
from zmesh.protocol.deadlines import NEVER
from zmesh.protocol.link import NOTHING, Act, LinkMachine
from zmesh.protocol.states import Link

HERE, THERE, DECOY = "tcp://here:1", "tcp://there:1", "tcp://nobody:1"
THEIRS = b"their-id"
NOW = 1000.0
JITTER = 1.25
IMPATIENT = 0.75 * DIAL_PATIENCE  # the shortest patience there is
HELLO, DIAL, PING, HANGUP = Act(hello=True), Act(dial=HERE), Act(ping=True), Act(hangup=True)

Make = Callable[[], LinkMachine]

unhurried = settings(deadline=None)  # a busy machine is no reason to fail


def idle(seed: int = 0, now: float = NOW) -> LinkMachine:
    return LinkMachine(SeededEntropy(seed), now)


def dialling() -> LinkMachine:
    link = idle()
    link.sighted((HERE,), NOW)
    return link


def greeting() -> LinkMachine:
    link = dialling()
    link.ready(NOW)
    return link


def up() -> LinkMachine:
    link = greeting()
    link.greeted(THEIRS, link.id, NOW, up=True)
    assert link.state is Link.UP
    return link


STATES = {Link.IDLE: idle, Link.DIALING: dialling, Link.GREETING: greeting, Link.UP: up}


def acts(link: LinkMachine, until: float) -> Iterator[tuple[float, Act]]:
    """Let time pass; yield what the link wants and when. Waking it when it is due must always bring it on."""
    while (due := link.timer()) <= until:
        act = link.wake(due)
        assert act != NOTHING or link.timer() > due, "woken for nothing"
        yield due, act


# --- dialling ---------------------------------------------------------------------------------------------------------


def test_it_begins_with_no_connection_and_no_wish_for_one() -> None:
    link = idle()
    assert (link.state, link.id, link.peer_id, link.timer()) == (Link.IDLE, b"", b"", NEVER)
    assert link.sighted((), NOW) == NOTHING
    assert link.wake(NOW + 1e9) == NOTHING


def test_a_sighting_is_dialled_at_once() -> None:
    link = idle()
    assert link.sighted((HERE, THERE), NOW) == DIAL
    assert link.state is Link.DIALING


@pytest.mark.parametrize("state", [Link.DIALING, Link.GREETING])
def test_a_sighting_at_another_place_is_dialled_at_once(state: Link) -> None:
    link = STATES[state]()
    assert link.sighted((HERE,), NOW + HELLO_MAX) == NOTHING
    assert link.sighted((), NOW + HELLO_MAX) == NOTHING
    assert link.sighted((THERE,), NOW + HELLO_MAX) == Act(dial=THERE)
    assert link.state is Link.DIALING
    assert link.endpoints == (THERE, HERE)


def test_who_restarted_at_another_place_is_dialled_at_once() -> None:
    link = up()
    link.hear(NOW + 10)
    assert link.greeted(b"their-2.", b"", NOW + 10, up=False) == HELLO
    assert link.sighted((THERE,), NOW + 10) == Act(dial=THERE)


def test_a_link_that_is_up_is_left_alone_by_sightings() -> None:
    link = up()
    assert link.sighted((THERE,), NOW + 1) == NOTHING
    assert link.state is Link.UP
    assert link.endpoints == (HERE, THERE)  # none is better than the one that works


def test_the_newest_endpoints_are_kept_each_once_and_the_first_that_was_dialled() -> None:
    link = idle()
    for number in range(MAX_ENDPOINTS * 2):
        link.sighted((f"tcp://p{number}:1", f"tcp://p{number}:1"), NOW)
    newest = range(MAX_ENDPOINTS * 2 - 1, MAX_ENDPOINTS, -1)
    assert link.endpoints == (*(f"tcp://p{number}:1" for number in newest), "tcp://p0:1")


@pytest.mark.parametrize("make", [dialling, greeting, up])
def test_however_many_addresses_they_announce_the_one_that_answered_keeps_its_place(make: Make) -> None:
    link = make()
    announced = tuple(f"tcp://container{number}:1" for number in range(MAX_ENDPOINTS))
    for at in range(10):
        link.sighted(announced, NOW + at)
        assert HERE in link.endpoints
        assert len(link.endpoints) == MAX_ENDPOINTS


def test_the_place_is_kept_for_the_address_of_the_last_answer() -> None:
    link = dialling()
    link.sighted((THERE,), NOW + 1)
    link.ready(NOW + 1)
    link.greeted(THEIRS, link.id, NOW + 1, up=True)
    assert link.endpoints == (THERE, HERE)
    link.sighted(tuple(f"tcp://container{number}:1" for number in range(MAX_ENDPOINTS)), NOW + 1)
    assert link.endpoints[0] == THERE
    assert HERE not in link.endpoints


def test_endpoints_are_tried_in_turn_with_growing_and_bounded_pauses() -> None:
    link = idle()
    link.sighted((HERE, THERE), NOW)
    events = list(acts(link, NOW + 200))
    dials = [(at, act.dial) for at, act in events if act.dial]
    assert [endpoint for _, endpoint in dials] == [THERE, HERE] * (len(dials) // 2) + [THERE] * (len(dials) % 2)
    assert all(events[at][1] == HANGUP for at in range(0, len(events), 2))
    gaps = [later - earlier for (earlier, _), (later, _) in pairwise(dials)]
    assert min(gaps) >= IMPATIENT + 0.75 * REDIAL_FIRST
    assert max(gaps) <= DIAL_PATIENCE + JITTER * REDIAL_MAX


def test_every_second_attempt_is_for_the_address_that_answered_last_and_all_have_their_turn() -> None:
    others = tuple(f"tcp://other{number}:1" for number in range(4))
    link = up()
    link.sighted(others, NOW)
    dials = [act.dial for _, act in acts(link, NOW + 60) if act.dial]
    assert dials[:9] == [HERE, others[0], HERE, others[1], HERE, others[2], HERE, others[3], HERE]


def test_dials_have_a_bounded_rate_whatever_they_announce() -> None:
    """A member that names another address in each HELLO must not make us scan a network for it."""
    link, dials = greeting(), 0
    for tick in range(1, 10_001):
        now = NOW + tick / 1000
        act = link.greeted(tick.to_bytes(LINK_ID_BYTES, "big"), b"", now, up=False)
        act = link.sighted((f"tcp://victim:{tick}",), now)
        dials += bool(act.dial) + sum(bool(late.dial) for _, late in acts(link, now))
    assert 10 <= dials <= 10 / REDIAL_FIRST + 1


def test_greetings_and_goodbyes_in_turn_make_no_storm_of_dials() -> None:
    link, dials = greeting(), 0
    for tick in range(1, 10_001):
        now = NOW + tick / 1000
        link.bye(now)
        link.greeted(tick.to_bytes(LINK_ID_BYTES, "big"), b"", now, up=False)
        dials += bool(link.sighted((HERE,), now).dial) + sum(bool(late.dial) for _, late in acts(link, now))
    assert 10 <= dials <= 10 / REDIAL_FIRST + 1


def test_a_sighting_right_after_a_dial_is_dialled_a_moment_later() -> None:
    link = dialling()
    assert link.sighted((THERE,), NOW + 0.01) == NOTHING
    assert next(acts(link, NOW + 1)) == (NOW + REDIAL_FIRST, Act(dial=THERE))


def test_a_connection_that_is_just_ready_is_given_the_time_of_an_answer() -> None:
    link = dialling()
    assert link.sighted((THERE,), NOW + 0.01) == NOTHING
    link.ready(NOW + 0.02)
    dials = [(at, act.dial) for at, act in acts(link, NOW + 2) if act.dial]
    assert dials == [(NOW + 0.02 + HELLO_MAX, THERE)]


def test_an_answer_in_time_makes_the_other_place_needless() -> None:
    link = greeting()
    assert link.sighted((THERE,), NOW + 0.5) == NOTHING
    link.greeted(THEIRS, link.id, NOW + 0.6, up=True)
    assert all(not act.dial for _, act in acts(link, NOW + SILENCE - 1))
    assert link.state is Link.UP
    assert next(act for _, act in acts(link, NOW + 2 * SILENCE) if act.dial) == DIAL


def test_a_connection_that_takes_nothing_is_given_no_time_when_they_are_elsewhere() -> None:
    link = greeting()
    link.lost(NOW + 0.2)
    assert link.sighted((THERE,), NOW + 0.2) == Act(dial=THERE)


def test_an_address_that_brought_nothing_cuts_no_attempt_short() -> None:
    link = dialling()
    link.sighted((THERE,), NOW + 1)
    for tick in range(10, 22):
        assert link.sighted((HERE,), NOW + tick / 10) == NOTHING
        assert link.sighted((THERE,), NOW + tick / 10) == NOTHING
    assert next(acts(link, NOW + 10))[1] == HANGUP


def test_but_one_that_has_answered_may_again() -> None:
    link = greeting()
    link.sighted((THERE,), NOW + HELLO_MAX)
    assert link.sighted((HERE,), NOW + HELLO_MAX + REDIAL_FIRST) == DIAL


def test_after_a_while_it_may_again() -> None:
    link = dialling()
    link.sighted((THERE,), NOW + 1)
    link.ready(NOW + 1)
    link.ready(NOW + 3)  # it broke and is there again
    assert link.sighted((HERE,), NOW + 2 * DIAL_PATIENCE - 0.01) == NOTHING
    assert link.sighted((HERE,), NOW + 2 * DIAL_PATIENCE) == DIAL


def test_an_echo_makes_all_addresses_good_again() -> None:
    link = dialling()
    link.sighted((THERE,), NOW + 1)
    link.ready(NOW + 1)
    link.greeted(THEIRS, link.id, NOW + 1, up=True)
    link.greeted(b"their-2.", b"", NOW + 3, up=False)
    assert link.sighted((HERE,), NOW + 3) == DIAL


def test_where_nobody_answered_nobody_is_waited_for_at_length_while_another_address_answers() -> None:
    link = dialling()
    link.sighted((THERE,), NOW + 1)
    attempts: list[tuple[str, float]] = []
    where, begun = THERE, NOW + 1
    for at, act in acts(link, NOW + 100):
        if act.dial:
            where, begun = act.dial, at
            if where == HERE:
                link.ready(at)  # and nothing more
        if act.hangup:
            attempts.append((where, at - begun))
    assert [there for there, _ in attempts[:4]] == [THERE, HERE, THERE, HERE]
    assert attempts[0][1] >= IMPATIENT
    assert max(seconds for there, seconds in attempts[1:] if there == THERE) <= HELLO_MAX
    assert min(seconds for there, seconds in attempts if there == HERE) >= IMPATIENT


def test_an_address_that_has_answered_is_given_the_time_to_answer_again() -> None:
    link = up()
    events = acts(link, NOW + 2 * SILENCE)
    begun = next(at for at, act in events if act.dial)
    assert link.sighted((THERE,), begun + REDIAL_FIRST) == NOTHING
    assert next(acts(link, begun + SILENCE)) == (begun + HELLO_MAX, Act(dial=THERE))


def test_when_that_one_answers_no_more_all_are_waited_for_alike() -> None:
    link = up()
    link.sighted((THERE,), NOW)
    events = [(at, act) for at, act in acts(link, NOW + 100) if act.dial or act.hangup]
    attempts = [after - at for (at, act), (after, _) in pairwise(events) if act.dial]
    assert len(attempts) > 10
    assert min(attempts) >= IMPATIENT


def test_patience_differs_so_that_two_sides_do_not_stay_in_step() -> None:
    ends = set()
    for seed in range(100):
        link = idle(seed)
        link.sighted((HERE,), NOW)
        ends.add(link.timer())
    assert NOW + IMPATIENT <= min(ends) < max(ends) <= NOW + DIAL_PATIENCE
    assert max(ends) - min(ends) > 0.2 * DIAL_PATIENCE


def test_who_has_been_absent_for_long_is_probed_rarely() -> None:
    link = dialling()
    dials = [at for at, act in acts(link, NOW + 4 * ABSENT_AFTER) if act.dial]
    late = [later - earlier for earlier, later in pairwise(dials) if earlier > NOW + ABSENT_AFTER]
    assert late
    assert min(late) >= 0.75 * ABSENT_REDIAL
    assert max(late) <= DIAL_PATIENCE + JITTER * ABSENT_REDIAL


def test_a_probe_of_the_absent_tries_the_address_that_answered_last_and_another_one() -> None:
    link = up()
    link.sighted((THERE, DECOY), NOW)
    dials = [(at, act.dial) for at, act in acts(link, NOW + 4 * ABSENT_AFTER) if act.dial]
    for address, rarest in ((HERE, 1), (THERE, 2), (DECOY, 2)):
        late = [at for at, where in dials if where == address and at > NOW + ABSENT_AFTER]
        gaps = [later - earlier for earlier, later in pairwise(late)]
        assert min(gaps) >= 0.75 * ABSENT_REDIAL
        assert max(gaps) <= rarest * (2 * DIAL_PATIENCE + JITTER * (ABSENT_REDIAL + REDIAL_MAX))


def test_a_sign_of_life_ends_the_absence() -> None:
    link = dialling()
    list(acts(link, NOW + 2 * ABSENT_AFTER))
    link.sighted((HERE,), NOW + 2 * ABSENT_AFTER)
    dials = [at for at, act in acts(link, NOW + 2 * ABSENT_AFTER + 20) if act.dial]
    assert len(dials) >= 3


# --- greeting ---------------------------------------------------------------------------------------------------------


def test_hello_is_said_as_soon_as_the_connection_is_there() -> None:
    link = dialling()
    assert link.ready(NOW) == HELLO
    assert link.state is Link.GREETING
    assert len(link.id) == LINK_ID_BYTES


def test_a_connection_that_nobody_wanted_is_ignored() -> None:
    link = idle()
    assert link.ready(NOW) == NOTHING
    assert link.state is Link.IDLE


def test_hello_is_repeated_until_patience_ends() -> None:
    link = greeting()
    events = list(acts(link, NOW + DIAL_PATIENCE))
    hellos = [NOW, *(at for at, act in events if act == HELLO)]
    gaps = [later - earlier for earlier, later in pairwise(hellos)]
    assert len(gaps) >= 4
    assert 0.75 * HELLO_FIRST <= gaps[0] <= JITTER * HELLO_FIRST
    assert max(gaps) <= JITTER * HELLO_MAX
    hangups = [at for at, act in events if act == HANGUP]
    assert len(hangups) == 1
    assert NOW + IMPATIENT <= hangups[0] <= NOW + DIAL_PATIENCE


def test_an_echo_of_our_id_brings_it_up() -> None:
    link = greeting()
    assert link.greeted(THEIRS, link.id, NOW, up=True) == NOTHING  # said a moment ago: the answer is put off
    assert (link.state, link.peer_id) == (Link.UP, THEIRS)
    assert [act for _, act in acts(link, NOW + 1)] == [HELLO]  # their id was new


@pytest.mark.parametrize("echo", [b"", b"another!"])
def test_any_other_echo_does_not(echo: bytes) -> None:
    link = greeting()
    assert link.greeted(THEIRS, echo, NOW + 1, up=False) == HELLO
    assert (link.state, link.peer_id) == (Link.GREETING, THEIRS)


@pytest.mark.parametrize("make", [idle, dialling])
def test_a_hello_without_a_connection_only_tells_their_id(make: Make) -> None:
    link = make()
    state = link.state
    assert link.greeted(THEIRS, b"", NOW + 1, up=False) == NOTHING
    assert (link.state, link.peer_id, link.heard) == (state, THEIRS, NOW + 1)


@pytest.mark.parametrize(
    ("their_id", "they_are_up", "answered"),
    [(THEIRS, True, False), (THEIRS, False, True), (b"their-2.", True, True), (b"their-2.", False, True)],
)
def test_a_hello_is_answered_if_it_is_news_or_asks_for_it(their_id: bytes, they_are_up: bool, answered: bool) -> None:  # noqa: FBT001
    link = up()
    list(acts(link, NOW + 1))
    before = link.id
    assert link.greeted(their_id, link.id, NOW + 1, up=they_are_up) == (HELLO if answered else NOTHING)
    assert (link.state, link.id) == (Link.UP, before)


@pytest.mark.parametrize("echo", [b"", b"another!"])
def test_a_hello_that_does_not_know_our_link_ends_it(echo: bytes) -> None:
    link = up()
    before = link.id
    assert link.greeted(b"their-2.", echo, NOW + 1, up=False) == HELLO
    assert link.state is Link.GREETING
    assert link.id != before


def test_a_storm_of_hellos_is_answered_at_a_bounded_rate() -> None:
    link = up()
    said = 0
    for at in range(1000):
        now = NOW + 1 + at / 10_000
        said += link.greeted(at.to_bytes(8, "big"), at.to_bytes(8, "little"), now, up=False) == HELLO
        said += sum(act == HELLO for _, act in acts(link, now))
    assert said <= 0.1 / 0.01 + 1


def test_whoever_greets_and_never_gets_our_answer_makes_us_replace_the_connection() -> None:
    """Their side works and ours is stuck: all that is heard are their HELLOs, which is no reason to be content."""
    link = up()
    events: list[tuple[float, Act]] = []
    for at in range(1, 8):
        link.greeted(THEIRS, link.id, NOW + at, up=False)
        events += acts(link, NOW + at + 1)
        if link.state is not Link.UP:
            break
    hangups = [at for at, act in events if act.hangup]
    assert hangups
    assert hangups[0] <= NOW + 1 + DIAL_PATIENCE


@pytest.mark.parametrize("sign", ["hello", "frame"])
def test_their_word_that_they_hear_us_ends_the_doubt(sign: str) -> None:
    link = up()
    link.greeted(THEIRS, link.id, NOW + 1, up=False)
    if sign == "hello":
        link.greeted(THEIRS, link.id, NOW + 2, up=True)
    else:
        link.hear(NOW + 2)
    assert all(not act.hangup for _, act in acts(link, NOW + SILENCE))


# --- what ends a link -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [greeting, up])
def test_a_reset_of_our_id_draws_a_new_one(make: Make) -> None:
    link = make()
    before, was_up = link.id, link.state is Link.UP
    assert link.reset(before, NOW + 1) == (HELLO if was_up else NOTHING)
    assert was_up or next(acts(link, NOW + 1))[1] == HELLO  # with the next repetition
    assert link.state is Link.GREETING
    assert link.id != before
    assert link.reset(before, NOW + 2) == NOTHING  # the same again is about a link that is no more


def test_whoever_resets_every_hello_is_given_up_like_whoever_is_silent() -> None:
    link = greeting()
    hellos = 0
    for at, act in acts(link, NOW + DIAL_PATIENCE):
        hellos += act == HELLO
        if act.hangup:
            break
        link.reset(link.id, at)
    assert link.state is Link.IDLE
    assert hellos <= 6


@pytest.mark.parametrize("state", STATES)
def test_a_reset_of_any_other_id_is_ignored(state: Link) -> None:
    link = STATES[state]()
    assert link.reset(b"another!", NOW) == NOTHING
    assert link.state is state


def test_a_reset_means_nothing_without_a_connection() -> None:
    link = up()
    link.lost(NOW)
    assert link.reset(link.id, NOW) == NOTHING


def test_a_doubt_draws_a_new_id() -> None:
    link = up()
    before = link.id
    assert link.doubt(NOW + 1) == HELLO
    assert link.state is Link.GREETING
    assert link.id != before


@pytest.mark.parametrize("make", [greeting, up])
def test_a_connection_that_is_there_anew_begins_anew(make: Make) -> None:
    link = make()
    before = link.id
    assert link.ready(NOW + 1) == HELLO
    assert link.state is Link.GREETING
    assert link.id != before


@pytest.mark.parametrize("make", [greeting, up])
def test_a_connection_that_takes_nothing_is_waited_for_but_not_for_long(make: Make) -> None:
    link = make()
    assert link.lost(NOW + 1) == NOTHING
    assert link.state is Link.DIALING
    assert link.lost(NOW + 2) == NOTHING  # the second frame that is lost changes nothing
    at, act = next(acts(link, NOW + 10))
    assert act == HANGUP
    assert NOW + 1 + IMPATIENT <= at <= NOW + 1 + DIAL_PATIENCE


def test_a_connection_that_takes_something_again_is_greeted() -> None:
    link = up()
    link.lost(NOW + 1)
    assert link.ready(NOW + 2) == HELLO
    assert link.state is Link.GREETING


@pytest.mark.parametrize("make", [dialling, greeting, up])
def test_after_a_bye_the_next_dial_waits(make: Make) -> None:
    link = make()
    assert link.bye(NOW) == HANGUP
    assert (link.state, link.peer_id) == (Link.IDLE, b"")
    ((at, act),) = acts(link, NOW + 2 * BYE_REDIAL)
    assert act == DIAL
    assert at >= NOW + BYE_REDIAL


def test_a_bye_without_a_connection_is_only_noted() -> None:
    link = idle()
    link.greeted(THEIRS, b"", NOW, up=False)
    assert link.bye(NOW) == NOTHING
    assert link.peer_id == b""
    assert link.timer() == NEVER


def test_who_is_to_be_forgotten_is_not_dialled_again() -> None:
    link = up()
    link.bye(NOW, delay=NEVER)
    assert link.timer() == NEVER


@pytest.mark.parametrize("make", [idle, dialling, greeting, up])
def test_a_link_that_is_held_hangs_up_and_dials_nobody_until_it_is_free(make: Make) -> None:
    link = make()
    connected = link.state is not Link.IDLE
    assert link.hold(NOW + 60.0) == (HANGUP if connected else NOTHING)
    assert link.held
    assert link.sighted((THERE,), NOW + 61.0) == NOTHING
    assert link.moved(NOW + 62.0, gone=True) == NOTHING
    assert (link.state, link.timer()) == (Link.IDLE, NEVER)
    assert link.free(NOW + 64.0).dial == (HERE if connected else THERE)
    assert not link.held


def test_a_link_that_is_held_before_its_next_dial_does_not_dial() -> None:
    link = up()
    link.bye(NOW)
    assert link.timer() < NEVER
    assert link.hold(NOW) == NOTHING
    assert link.timer() == NEVER


def test_a_sighting_is_stronger_than_a_bye() -> None:
    link = up()
    link.bye(NOW + REDIAL_FIRST)
    assert link.sighted((HERE,), NOW + REDIAL_FIRST) == DIAL


# --- who moves --------------------------------------------------------------------------------------------------------


def known_at(*endpoints: str) -> LinkMachine:
    """A link that is up, to who said in its HELLO that it is there."""
    link = up()
    assert link.announced(endpoints, NOW) == NOTHING
    return link


def test_who_has_left_the_address_we_dialled_is_followed_at_once() -> None:
    link = known_at(HERE, DECOY)
    link.hear(NOW + 5)
    assert link.announced((DECOY, THERE), NOW + 5) == Act(dial=THERE)
    assert link.state is Link.DIALING
    assert link.ready(NOW + 5) == HELLO


def test_who_has_left_it_for_one_that_was_known_is_followed_there() -> None:
    link = known_at(HERE, DECOY)
    assert link.announced((DECOY,), NOW + 5) == Act(dial=DECOY)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((HERE,), (HERE, THERE)),  # it has another one besides
        ((HERE, THERE), (THERE, HERE)),
        ((THERE,), (DECOY,)),  # it never named the one we dialled: a forwarded port
        ((HERE,), ()),  # it says nothing of where it is
        ((), (THERE,)),
    ],
)
def test_who_may_still_be_there_is_left_alone(before: tuple[str, ...], after: tuple[str, ...]) -> None:
    link = known_at(*before)
    assert link.announced(after, NOW + 5) == NOTHING
    assert link.state is Link.UP
    assert all(not act.dial for _, act in acts(link, NOW + SILENCE - 1))


def test_what_is_announced_without_a_link_is_a_sighting() -> None:
    assert idle().announced((HERE,), NOW) == DIAL


def test_whoever_leaves_again_and_again_is_dialled_at_a_bounded_rate_and_found_again() -> None:
    """A member that lies about its addresses makes us look elsewhere, but neither in a frenzy nor for ever."""
    link, dials, ups = known_at(HERE), [], 0
    for tick in range(1, 30_001):
        now = NOW + tick / 1000
        if link.state is Link.UP:
            link.hear(now)
            ups += 1
        act = link.announced((HERE,) if tick % 2 else (f"tcp://victim:{tick}",), now)
        for late in [act, *(late for _, late in acts(link, now))]:
            if late.dial:
                dials.append(late.dial)
            if late.dial == HERE:  # only there is somebody with its key
                link.ready(now)
                link.greeted(THEIRS, link.id, now, up=True)
    assert len(dials) <= 30 / REDIAL_FIRST + 1
    assert HERE in dials
    assert ups > 100
    assert HERE in link.endpoints


def test_a_late_word_about_the_old_address_does_not_lose_the_new_one() -> None:
    link = known_at(HERE)
    link.announced((THERE,), NOW + 5)
    link.ready(NOW + 5)
    link.greeted(THEIRS, link.id, NOW + 5, up=True)
    link.announced((HERE,), NOW + 5)
    link.announced((THERE,), NOW + 5.1)
    list(acts(link, NOW + 7))
    dials = [act.dial for _, act in acts(link, NOW + 30) if act.dial]
    assert THERE in dials[:2]


@pytest.mark.parametrize("gone", [True, False])
@pytest.mark.parametrize("state", [Link.DIALING, Link.GREETING])
def test_when_this_host_moves_whoever_is_not_linked_is_dialled(state: Link, gone: bool) -> None:  # noqa: FBT001
    link = STATES[state]()
    assert link.moved(NOW + DIAL_PATIENCE / 2, gone=gone) == DIAL


def test_a_link_ends_only_when_an_address_is_gone() -> None:
    link = up()
    link.sighted((THERE,), NOW + 5)
    assert link.moved(NOW + 5, gone=False) == NOTHING
    assert link.moved(NOW + 5, gone=True) == DIAL, "where it answered last"
    assert link.state is Link.DIALING


def test_one_that_waits_to_dial_does_it_now() -> None:
    link = up()
    link.bye(NOW)
    assert link.moved(NOW + REDIAL_FIRST, gone=False) == DIAL


def test_a_move_does_not_make_us_dial_in_a_frenzy() -> None:
    link, dials = up(), 0
    for tick in range(1, 10_001):
        now = NOW + tick / 1000
        dials += bool(link.moved(now, gone=True).dial) + sum(bool(late.dial) for _, late in acts(link, now))
    assert 1 <= dials <= 10 / REDIAL_FIRST + 1


def test_a_move_brings_nobody_back_whom_we_have_shut_out_nor_anybody_who_is_nowhere() -> None:
    link = up()
    link.bye(NOW, delay=NEVER)
    assert link.moved(NOW + 5, gone=True) == NOTHING
    assert (link.state, link.timer()) == (Link.IDLE, NEVER)
    assert idle().moved(NOW, gone=True) == NOTHING


# --- pings and silence ------------------------------------------------------------------------------------------------


def test_an_idle_link_pings_now_and_then_until_it_is_silent_for_too_long() -> None:
    link = up()
    list(acts(link, NOW + 1))
    assert [(at - NOW, act) for at, act in acts(link, NOW + SILENCE)] == [
        (IDLE_PING, PING), (2 * IDLE_PING, PING), (SILENCE, HANGUP),
    ]  # fmt: skip


def test_signs_of_life_keep_it_up() -> None:
    link = up()
    for at in range(100):
        link.hear(NOW + at)
        assert all(not act.hangup for _, act in acts(link, NOW + at + 1))
    assert link.state is Link.UP


def test_while_something_is_unconfirmed_pings_are_frequent_with_growing_pauses() -> None:
    link = up()
    link.expect(NOW, waiting=True)
    last, gaps = NOW, []
    for tick in range(4 * 60):
        now = NOW + tick / 4
        link.hear(now)  # they are there, only what we wait for does not come
        for at, act in acts(link, now + 0.25):
            if act.ping:
                gaps.append(at - last)
                last = at
    assert 0.75 * PING_FIRST <= gaps[0] <= JITTER * PING_FIRST
    assert max(gaps) <= JITTER * PING_MAX
    assert gaps[-1] >= 0.75 * PING_MAX


def test_it_is_stalled_when_something_is_unconfirmed_and_nothing_is_heard() -> None:
    link = up()
    link.expect(NOW + 1, waiting=True)
    hangups = [at for at, act in acts(link, NOW + SILENCE) if act.hangup]
    assert hangups[0] == NOW + 1 + STALLED


def test_waiting_begins_when_something_was_sent_and_not_with_the_last_sign_of_life() -> None:
    link = up()
    list(acts(link, NOW + 10))
    link.expect(NOW + 10, waiting=True)
    assert next(at for at, act in acts(link, NOW + 20) if act.hangup) == NOW + 10 + STALLED


def test_when_all_is_confirmed_pings_are_rare_again() -> None:
    link = up()
    list(acts(link, NOW + 1))
    link.expect(NOW + 1, waiting=True)
    link.hear(NOW + 1.1)
    link.expect(NOW + 1.1, waiting=False)
    assert next(acts(link, NOW + 10)) == (NOW + 1.1 + IDLE_PING, PING)


def test_progress_begins_again_with_short_pauses() -> None:
    link = up()
    link.expect(NOW, waiting=True)
    for tick in range(1, 41):
        link.hear(NOW + tick / 4)
        list(acts(link, NOW + tick / 4))
    now = NOW + 10
    assert link.timer() > now + JITTER * PING_FIRST or link.wake(link.timer()) == PING
    link.expect(now, waiting=True, progress=True)
    assert link.timer() <= now + JITTER * PING_FIRST


def test_steady_progress_does_not_put_off_the_ping_that_finds_a_lost_tail() -> None:
    """One class moves on and on; the last frame of another was lost, and only a PING can tell."""
    link = up()
    link.expect(NOW, waiting=True)
    pings = 0
    for tick in range(1, 101):
        now = NOW + tick / 10
        link.hear(now)
        link.expect(now, waiting=True, progress=True)
        pings += sum(act.ping for _, act in acts(link, now))
    assert pings >= 10


@pytest.mark.parametrize("state", [Link.IDLE, Link.DIALING, Link.GREETING])
def test_nothing_is_expected_of_a_link_that_is_not_up(state: Link) -> None:
    link = STATES[state]()
    before = link.timer()
    link.expect(NOW, waiting=True)
    assert link.timer() == before


@pytest.mark.parametrize("leave", ["reset", "doubt", "ready", "lost", "bye"])
def test_a_link_that_is_not_up_does_not_ping(leave: str) -> None:
    link = up()
    link.expect(NOW, waiting=True)
    {
        "reset": lambda: link.reset(link.id, NOW),
        "doubt": lambda: link.doubt(NOW),
        "ready": lambda: link.ready(NOW),
        "lost": lambda: link.lost(NOW),
        "bye": lambda: link.bye(NOW),
    }[leave]()
    assert all(not act.ping for _, act in acts(link, NOW + 100))


# --- moving ---------------------------------------------------------------------------------------------------------


def test_who_says_that_it_has_left_the_address_dialled_is_followed() -> None:
    link = up()
    assert link.announced((HERE,), NOW + HELLO_MAX) == NOTHING
    assert link.announced((HERE, THERE), NOW + HELLO_MAX) == NOTHING
    assert link.announced((THERE, DECOY), NOW + HELLO_MAX) == Act(dial=DECOY), "the new one first"
    assert link.state is Link.DIALING


def test_when_our_own_addresses_change_a_link_that_is_up_is_left_alone_unless_one_is_gone() -> None:
    assert idle().moved(NOW, gone=True) == NOTHING
    link = up()
    assert link.moved(NOW + HELLO_MAX, gone=False) == NOTHING
    assert link.moved(NOW + HELLO_MAX, gone=True) == DIAL


# --- on a connection of theirs ---------------------------------------------------------------------------------------

PATH, OTHER = b"\0path", b"\0othr"


def called(make: Make = dialling) -> LinkMachine:
    """They call and we do not reach them: a moment later they are answered on their own connection."""
    link = make()
    link.greeted(THEIRS, b"", NOW, up=False, path=PATH)
    return link


def greeting_back(make: Make = dialling) -> LinkMachine:
    link = called(make)
    assert link.wake(NOW + ANSWER_AFTER) == HELLO
    assert (link.state, link.via) == (Link.GREETING, PATH)
    return link


def up_back(make: Make = dialling) -> LinkMachine:
    link = greeting_back(make)
    link.greeted(THEIRS, link.id, NOW + ANSWER_AFTER, up=True, path=PATH)
    assert (link.state, link.via) == (Link.UP, PATH)
    return link


@pytest.mark.parametrize("make", [idle, dialling])
def test_who_calls_and_is_not_reached_is_greeted_on_its_own_connection(make: Make) -> None:
    link = called(make)
    events = list(acts(link, NOW + ANSWER_AFTER))
    assert events == [(NOW + ANSWER_AFTER, HELLO)]
    assert link.via == PATH


def test_any_frame_is_a_call() -> None:
    link = dialling()
    link.hear(NOW, PATH)
    assert next(acts(link, NOW + ANSWER_AFTER)) == (NOW + ANSWER_AFTER, HELLO)


def test_who_called_once_and_is_gone_is_not_greeted_there() -> None:
    link = called()
    assert link.wake(NOW + DIAL_PATIENCE + 1) == NOTHING
    assert link.via == b""


def test_who_is_reached_is_answered_on_our_own_connection() -> None:
    link = called()
    link.ready(NOW + 1)
    link.greeted(THEIRS, link.id, NOW + 1, up=True, path=PATH)
    assert link.state is Link.UP
    link.hear(NOW + 5, PATH)
    link.lost(NOW + 6)
    link.hear(NOW + 6, PATH)
    assert all(act != HELLO for _, act in acts(link, NOW + 6 + ANSWER_AFTER - 0.01)), "it may be again"
    assert link.via == b""


def test_a_connection_that_brings_no_echo_is_left_for_theirs() -> None:
    link = called(greeting)
    hangup = next(at for at, act in acts(link, NOW + DIAL_PATIENCE) if act.hangup)
    link.hear(hangup, PATH)
    assert link.wake(hangup) == HELLO
    assert link.via == PATH


def test_who_hears_greetings_and_gets_no_echo_soon_takes_their_way() -> None:
    """Ours is stuck, in a TCP that waits ever longer, and theirs is not."""
    link = greeting()
    link.greeted(THEIRS, b"", NOW, up=False, path=PATH)
    link.greeted(THEIRS, b"", NOW + 0.2, up=False, path=PATH)
    hangup = next(at for at, act in acts(link, NOW + DIAL_PATIENCE) if act.hangup)
    assert hangup <= NOW + JITTER * GREET_PATIENCE
    assert link.wake(hangup) == HELLO
    assert link.via == PATH


def test_who_hears_nothing_gives_its_own_connection_all_its_time() -> None:
    link = greeting()
    link.greeted(THEIRS, b"", NOW, up=False)
    assert all(not act.hangup for _, act in acts(link, NOW + IMPATIENT - 0.01))


def test_over_a_long_way_the_echo_is_waited_for_longer_each_time() -> None:
    """There the other side's greeting always comes before its echo, and nothing is stuck."""
    link, waits = dialling(), []
    for attempt in range(6):
        now = NOW + 10 * attempt
        link.ready(now)
        link.greeted(THEIRS, b"", now, up=False, path=PATH)
        waits.append(next(at for at, act in acts(link, now + DIAL_PATIENCE) if act.hangup) - now)
        while link.state is not Link.DIALING:
            link.wake(link.timer())
    assert waits[0] <= JITTER * GREET_PATIENCE
    assert waits[-1] >= IMPATIENT
    link.ready(NOW + 100)
    link.greeted(THEIRS, link.id, NOW + 100, up=True, path=PATH)
    link.reset(link.id, NOW + 101)
    link.greeted(THEIRS, b"", NOW + 101, up=False, path=PATH)
    hangup = next(at for at, act in acts(link, NOW + 101 + DIAL_PATIENCE) if act.hangup)
    assert hangup <= NOW + 101 + JITTER * GREET_PATIENCE, "an echo has come since"


def test_what_is_being_dialled_meanwhile_replaces_it_when_it_is_ready() -> None:
    link = greeting_back()
    before = link.id
    assert link.ready(NOW + ANSWER_AFTER + 0.5) == HELLO
    assert (link.state, link.via) == (Link.GREETING, b"")
    assert link.id != before
    link.greeted(THEIRS, link.id, NOW + ANSWER_AFTER + 0.5, up=True, path=PATH)
    assert not any(act.dial for _, act in acts(link, NOW + SILENCE))


def test_dialling_goes_on_in_the_background_ever_more_rarely_and_the_link_stays_up() -> None:
    link, dials = up_back(), []
    for tick in range(1200):
        now = NOW + ANSWER_AFTER + tick
        link.hear(now, PATH)
        dials += [at for at, act in acts(link, now + 1) if act.dial]
        assert (link.state, link.via) == (Link.UP, PATH)
    gaps = [later - earlier for earlier, later in pairwise(dials)]
    assert gaps[0] <= DIAL_PATIENCE + JITTER * 2 * REDIAL_MAX
    assert max(gaps) >= 0.75 * ABSENT_AFTER / 2
    assert len(gaps) < 15


def test_an_address_that_was_not_tried_is_dialled_soon() -> None:
    link = idle()
    link.sighted((HERE, THERE, DECOY), NOW)
    link.greeted(THEIRS, b"", NOW, up=False, path=PATH)
    link.wake(NOW + ANSWER_AFTER)
    link.greeted(THEIRS, link.id, NOW + ANSWER_AFTER, up=True, path=PATH)
    dials = [act.dial for _, act in acts(link, NOW + SILENCE) if act.dial]
    assert set(dials) >= {THERE, DECOY}


@pytest.mark.parametrize("make", [greeting_back, up_back])
def test_a_new_address_is_dialled_beside_it(make: Make) -> None:
    link = make()
    before = link.state
    assert link.sighted((THERE,), NOW + ANSWER_AFTER) == Act(dial=THERE)
    assert (link.state, link.via) == (before, PATH)


def test_a_new_address_is_dialled_in_place_of_the_one_being_dialled() -> None:
    link = up_back()
    link.sighted((THERE,), NOW + ANSWER_AFTER)
    assert link.sighted((DECOY,), NOW + ANSWER_AFTER) == NOTHING  # a moment later
    assert next(acts(link, NOW + ANSWER_AFTER + REDIAL_FIRST))[1] == Act(dial=DECOY)


def test_after_a_move_it_is_dialled_beside_it() -> None:
    link = up_back()
    assert link.moved(NOW + 2 * ANSWER_AFTER, gone=False) == DIAL
    assert link.via == PATH


def test_where_nothing_can_be_dialled_nothing_is() -> None:
    link = up_back(idle)
    assert all(not act.dial for _, act in acts(link, NOW + 2 * ABSENT_AFTER))


@pytest.mark.parametrize("make", [greeting_back, up_back])
def test_a_path_that_takes_nothing_is_left_at_once(make: Make) -> None:
    link = make()
    assert link.lost(NOW + ANSWER_AFTER, OTHER) == NOTHING
    assert link.lost(NOW + ANSWER_AFTER) == NOTHING, "what became of our own connection says nothing of theirs"
    assert link.via == PATH
    assert link.lost(NOW + ANSWER_AFTER, PATH) == HANGUP
    assert (link.state, link.via) == (Link.IDLE, b"")
    link.hear(NOW + ANSWER_AFTER + 0.1, OTHER)
    assert link.wake(NOW + ANSWER_AFTER + 0.1) == HELLO
    assert link.via == OTHER


def test_a_path_that_brings_no_echo_is_left() -> None:
    link = greeting_back(idle)
    assert any(act == HANGUP for _, act in acts(link, NOW + ANSWER_AFTER + DIAL_PATIENCE))
    assert (link.state, link.via) == (Link.IDLE, b"")


@pytest.mark.parametrize(
    ("make", "theirs", "turns"),
    [(greeting_back, THEIRS, True), (up_back, THEIRS, False), (up_back, b"their-2.", True)],
)
def test_a_new_connection_of_theirs_is_greeted_on(make: Make, theirs: bytes, turns: bool) -> None:  # noqa: FBT001
    link = make()
    before = link.id
    link.greeted(theirs, link.id, NOW + 2 * ANSWER_AFTER, up=True, path=OTHER)
    assert link.via == (OTHER if turns else PATH)
    assert (link.id != before) == turns


def test_what_comes_on_our_own_connection_makes_no_way_back() -> None:
    link = dialling()
    link.greeted(THEIRS, b"", NOW, up=False)
    link.hear(NOW)
    assert all(act != HELLO for _, act in acts(link, NOW + 2 * ANSWER_AFTER))


@pytest.mark.parametrize("make", [idle, greeting_back, up_back])
def test_who_says_goodbye_is_not_answered_on_what_is_left_of_its_connection(make: Make) -> None:
    link = make()
    link.greeted(THEIRS, link.id, NOW + ANSWER_AFTER, up=True, path=PATH)
    link.bye(NOW + ANSWER_AFTER, delay=NEVER)
    assert link.via == b""
    assert link.timer() == NEVER


# --- one machine and any events ---------------------------------------------------------------------------------------

events = st.one_of(
    st.tuples(st.just("pass"), st.floats(0, 20)),
    st.tuples(
        st.sampled_from(["sighted", "announced"]), st.lists(st.sampled_from([HERE, THERE, ""]), max_size=2).map(tuple)
    ),
    st.tuples(st.just("moved"), st.booleans()),
    st.tuples(st.sampled_from(["ready", "lost", "bye", "hear", "doubt"]), st.none()),
    st.tuples(st.just("reset"), st.booleans()),
    st.tuples(st.just("expect"), st.tuples(st.booleans(), st.booleans())),
    st.tuples(st.just("hello"), st.tuples(st.sampled_from([THEIRS, b"their-2."]), st.booleans(), st.booleans())),
)


def happen(link: LinkMachine, name: str, value: object, now: float) -> None:
    """Let one event reach the machine."""
    match value:
        case tuple() if name in ("sighted", "announced"):
            getattr(link, name)(value, now)
        case bool() if name == "moved":
            link.moved(now, gone=value)
        case (bytes(theirs), bool(echoes), bool(they)):
            link.greeted(theirs, link.id if echoes else b"another!", now, up=they)
        case (bool(waiting), bool(progress)):
            link.expect(now, waiting=waiting, progress=progress)
        case bool(ours):
            link.reset(link.id if ours else b"another!", now)
        case _ if name != "doubt" or link.state is Link.UP:
            getattr(link, name)(now)
        case _:
            pass


@unhurried
@given(st.lists(events, max_size=60), st.integers(0, 99))
def test_no_order_of_events_stops_the_clock_or_breaks_the_table(script: list[tuple[str, object]], seed: int) -> None:
    link, now = idle(seed), NOW
    known: set[bytes] = set()
    for name, value in script:
        before, was = link.id, link.state
        if isinstance(value, float):
            now += value
            assert sum(1 for _ in acts(link, now)) <= 2 + value / 0.05
        else:
            happen(link, name, value, now)
        if link.id != before:
            assert link.id not in known
            known.add(link.id)
        assert was is not Link.UP or link.state is not Link.GREETING or link.id != before
        assert link.state is Link.IDLE or link.timer() < NEVER
        assert link.state is not Link.IDLE or not link.endpoints or link.timer() <= now + 2 * ABSENT_REDIAL
    assert link.endpoints or not list(acts(link, now + 100))


# --- two machines -----------------------------------------------------------------------------------------------------


class Side:
    """One end: its machine, and the connection it has dialled."""

    def __init__(self, name: str) -> None:
        self.name, self.endpoint = name, f"tcp://{name}:1"
        self.link = idle()
        self.connection = 0  # its serial; 0 for none
        self.open = False
        self.stuck = False  # takes everything and delivers nothing, for as long as it lives
        self.deaf = False  # the way from here to there loses every frame
        self.walled = False  # it cannot be dialled


def path_of(side: Side) -> bytes:
    """Name the connection that a side has dialled, as the other one sees it."""
    return side.connection.to_bytes(5, "big") if side.connection and side.open else b""


class Wires:
    """Two ends and what is between them. Frames arrive in order, with a delay, or not at all."""

    DELAY = 0.02

    def __init__(self, delay: float = DELAY, announced: tuple[str, ...] = (), first: int = 1) -> None:
        self.now, self.delay = NOW, delay
        self.announced = announced  # in their HELLOs, instead of where they are
        self.sides = (Side("one"), Side("two"))
        self.queue: list[tuple[float, int, Side, int, tuple[object, ...]]] = []
        self.serials = count(first)
        self.hellos: list[tuple[str, tuple[object, ...]]] = []
        self.restart(self.sides[0])
        self.restart(self.sides[1])

    def other(self, side: Side) -> Side:
        return self.sides[side is self.sides[0]]

    def restart(self, side: Side) -> None:
        side.link = idle(next(self.serials), self.now)
        side.connection = 0
        self.do(side, side.link.sighted((self.other(side).endpoint,), self.now))

    def later(self, side: Side, connection: int, *event: object) -> None:
        delay = self.delay * (3 if event == ("ready",) and self.announced else 1)  # CURVE takes two round trips
        heappush(self.queue, (self.now + delay, next(self.serials), side, connection, event))

    def do(self, side: Side, act: Act) -> None:
        if act.hangup:
            side.connection = 0
        if act.dial:
            side.connection, side.open, side.stuck = next(self.serials), False, False
            there = self.other(side)
            if act.dial == there.endpoint and not (side.deaf or there.walled):  # else TCP backs off for ever
                self.later(side, side.connection, "ready")
        if act.hello:
            self.send(side, "hello", side.link.id, side.link.peer_id, side.link.state is Link.UP)
        if act.ping:
            self.send(side, "ping", side.link.id)

    def send(self, side: Side, *frame: object) -> None:
        if frame[0] == "hello":
            self.hellos.append((side.name, frame))
        there = self.other(side)
        if side.link.via:
            if side.link.via != path_of(there):
                self.do(side, side.link.lost(self.now, side.link.via))
            elif not there.stuck and not side.deaf:
                self.later(there, there.connection, *frame)
        elif side.connection and side.open and not side.stuck and not side.deaf:
            self.later(there, 0, path_of(side), *frame)

    def arrive(self, side: Side, connection: int, event: tuple[object, ...]) -> None:
        if connection not in (0, side.connection):
            return  # it came on a connection that is no more
        if event == ("ready",):
            side.open = True
            self.do(side, side.link.ready(self.now))
        elif isinstance(event[0], bytes):
            self.happen(side, event[0], event[1:])
        else:
            self.happen(side, b"", event)

    def happen(self, side: Side, path: bytes, event: tuple[object, ...]) -> None:
        link, now = side.link, self.now
        match event:
            case ("reset", bytes(known)):
                self.do(side, link.reset(known, now))
            case ("hello", bytes(theirs), bytes(echo), bool(they)):
                was_up = link.state is Link.UP
                self.do(side, link.greeted(theirs, echo, now, up=they, path=path))
                self.do(side, link.sighted(self.announced or (self.other(side).endpoint,), now))
                if link.state is Link.UP and not was_up:
                    self.send(side, "frame", link.id)  # the roster
            case ("bye",):
                self.do(side, link.bye(now))
            case (str(kind), bytes(theirs)):
                if theirs != link.peer_id:
                    self.later(self.other(side), 0, "reset", theirs)
                    return
                link.hear(now, path)
                if kind == "ping" and link.state is Link.UP:
                    self.send(side, "frame", link.id)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        steps = 0
        while True:
            due = min([side.link.timer() for side in self.sides] + [entry[0] for entry in self.queue[:1]])
            if due > end:
                break
            steps += 1
            assert steps < 1000 + 400 * seconds, "the links talk in circles"
            self.now = max(self.now, due)
            if self.queue and self.queue[0][0] <= self.now:
                _, _, side, connection, event = heappop(self.queue)
                self.arrive(side, connection, event)
                continue
            for side in self.sides:
                before = side.link.timer()
                if before <= self.now:
                    act = side.link.wake(self.now)
                    assert act != NOTHING or side.link.timer() > before, "woken for nothing"
                    self.do(side, act)
        self.now = end

    @property
    def linked(self) -> bool:
        one, two = (side.link for side in self.sides)
        return one.state is two.state is Link.UP and one.peer_id == two.id and two.peer_id == one.id


def test_two_that_see_each_other_are_up_within_a_moment() -> None:
    wires = Wires()
    wires.run(10 * Wires.DELAY)
    assert wires.linked


def test_when_both_are_up_nobody_says_hello() -> None:
    wires = Wires()
    wires.run(1)
    said = len(wires.hellos)
    assert said <= 6
    wires.run(1000)
    assert wires.linked
    assert len(wires.hellos) == said


def test_both_can_leave_the_link_at_once() -> None:
    wires = Wires()
    wires.run(1)
    for side in wires.sides:
        wires.do(side, side.link.doubt(wires.now))
    wires.run(1)
    assert wires.linked


def test_a_restart_is_noticed_at_once() -> None:
    wires = Wires()
    wires.run(60)
    wires.restart(wires.sides[0])
    wires.run(10 * Wires.DELAY)
    assert wires.linked


@pytest.mark.parametrize("which", [0, 1])
def test_a_connection_that_is_stuck_in_one_direction_is_replaced(which: int) -> None:
    wires = Wires()
    wires.run(1)
    wires.sides[which].stuck = True
    wires.run(SILENCE + DIAL_PATIENCE + 2 * REDIAL_MAX)
    assert wires.linked


def test_after_a_long_silence_in_both_directions_traffic_resumes_within_three_seconds() -> None:
    wires = Wires()
    wires.run(1)
    for side in wires.sides:
        side.deaf = True
    wires.run(60)
    for side in wires.sides:
        side.deaf = False
    wires.run(REDIAL_MAX * JITTER + DIAL_PATIENCE + 0.5)
    assert wires.linked


@pytest.mark.parametrize("delay", [0.001, 0.02, 0.1, 0.2])
@pytest.mark.parametrize("many", [1, 3, MAX_ENDPOINTS])
def test_two_that_announce_only_dead_addresses_link_over_the_one_they_were_given(delay: float, many: int) -> None:
    """Containers and NAT: what they say of themselves is of no use, a static address is, and it must win."""
    announced = tuple(f"tcp://inner{number}:1" for number in range(many))
    waits: list[float] = []
    for seed in range(1, 31):
        wires = Wires(delay, announced, 1000 * seed)
        wires.run(0.1 * seed)
        wires.restart(wires.sides[1])
        begun = wires.now
        while not wires.linked:
            wires.run(0.05)
            assert wires.now < begun + 60, "never linked"
        waits.append(wires.now - begun)
    assert sorted(waits)[len(waits) // 2] <= 2 * DIAL_PATIENCE


def test_a_copy_of_a_store_makes_the_link_flap_at_a_bounded_rate() -> None:
    """Two processes with one store id: each HELLO takes the link from the other. Wrong, but never a storm."""
    wires = Wires()
    wires.run(1)
    said = len(wires.hellos)
    for _ in range(100):
        wires.happen(wires.sides[0], b"", ("hello", b"the-copy", b"", False))
        wires.run(1)
    assert len(wires.hellos) - said <= 100 * 8


ONE_WAY = (
    2 * (DIAL_PATIENCE + JITTER * ABSENT_REDIAL)  # the one that can dial may do so rarely
    + 2 * SILENCE  # a half of the link may have to fall silent once more
)
TROUBLE_ENDS = (
    SILENCE  # the slower side has to notice
    + JITTER * ABSENT_REDIAL  # and may have given up for long
    + 3 * (DIAL_PATIENCE + JITTER * REDIAL_MAX)  # a stuck connection, a decoy, the right one
)


class LinkLaw(RuleBasedStateMachine):
    """Any trouble; when it ends, both are up within a bounded time, and then they are quiet."""

    def __init__(self) -> None:
        super().__init__()
        self.wires = Wires()

    which = st.integers(0, 1)

    @initialize(seconds=st.floats(0, 2))
    def begin(self, seconds: float) -> None:
        self.wires.run(seconds)

    @rule(seconds=st.one_of(st.floats(0, 0.1), st.floats(0, 20), st.floats(0, 2 * ABSENT_AFTER)))
    def time_passes(self, seconds: float) -> None:
        self.wires.run(seconds)

    @rule(which=which, deaf=st.booleans())
    def the_way_is_lost_or_found(self, which: int, deaf: bool) -> None:  # noqa: FBT001
        self.wires.sides[which].deaf = deaf

    @rule(which=st.sampled_from([0, 1, None]))
    def a_wall_is_built(self, which: int | None) -> None:
        """One cannot be dialled from now on, whatever was before; what is connected breaks."""
        for side in self.wires.sides:
            side.walled = which is not None and side is self.wires.sides[which]
            if side.walled:
                self.wires.other(side).open = False

    @rule(which=which)
    def a_connection_is_stuck(self, which: int) -> None:
        self.wires.sides[which].stuck = True

    @rule(which=which)
    def a_connection_breaks_and_is_there_again(self, which: int) -> None:
        side = self.wires.sides[which]
        if side.connection and side.open and not side.stuck:
            self.wires.later(side, side.connection, "ready")

    @rule(which=which)
    def a_frame_cannot_be_sent(self, which: int) -> None:
        side = self.wires.sides[which]
        self.wires.do(side, side.link.lost(self.wires.now))

    @rule(which=which)
    def frames_on_the_way_are_lost(self, which: int) -> None:
        side = self.wires.sides[which]
        self.wires.queue = sorted(entry for entry in self.wires.queue if entry[2] is not side or entry[3])

    @rule(which=which, back=st.integers(1, 6))
    def an_old_hello_arrives_late(self, which: int, back: int) -> None:
        side = self.wires.sides[which]
        old = [frame for name, frame in self.wires.hellos if name != side.name]
        if old:
            self.wires.later(side, 0, *old[-min(back, len(old))])

    @rule(which=which)
    def a_process_restarts(self, which: int) -> None:
        self.wires.restart(self.wires.sides[which])

    @rule(which=which)
    def a_hello_is_doubted(self, which: int) -> None:
        side = self.wires.sides[which]
        if side.link.state is Link.UP:
            self.wires.do(side, side.link.doubt(self.wires.now))

    @rule(which=which)
    def one_says_bye(self, which: int) -> None:
        side = self.wires.sides[which]
        self.wires.send(side, "bye")
        self.wires.do(side, side.link.bye(self.wires.now))

    @rule(which=which)
    def discovery_is_mistaken(self, which: int) -> None:
        side = self.wires.sides[which]
        self.wires.do(side, side.link.sighted((DECOY,), self.wires.now))

    @rule(which=which, waiting=st.booleans(), progress=st.booleans())
    def something_is_sent_or_confirmed(self, which: int, waiting: bool, progress: bool) -> None:  # noqa: FBT001
        self.wires.sides[which].link.expect(self.wires.now, waiting=waiting, progress=progress)

    @invariant()
    def somebody_who_is_wanted_is_dialled(self) -> None:
        for side in self.wires.sides:
            assert side.link.timer() < NEVER
            assert bool(side.link.via) or bool(side.connection) == (side.link.state is not Link.IDLE)

    def teardown(self) -> None:
        wires = self.wires
        for side in wires.sides:
            side.deaf = False
        wires.run(TROUBLE_ENDS + ONE_WAY * any(side.walled for side in wires.sides))
        assert wires.linked, [(side.link.state.name, side.stuck) for side in wires.sides]
        for side in wires.sides:
            side.link.expect(wires.now, waiting=False)
        said = len(wires.hellos)
        wires.run(60)
        assert wires.linked
        assert len(wires.hellos) == said


TestLinkLaw = LinkLaw.TestCase
TestLinkLaw.settings = settings(deadline=None, max_examples=150, stateful_step_count=30)


def test_who_has_slept_does_not_take_the_others_for_absent() -> None:
    link = dialling()
    due = link.timer()
    late = due + ABSENT_AFTER + 1.0
    assert link.wake(late) == HANGUP
    assert link.timer() < late + REDIAL_MAX, "soon, as after the first attempt"
    link = dialling()
    assert link.wake(due + OVERSLEPT / 2) == HANGUP
