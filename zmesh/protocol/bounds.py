"""Every limit of the protocol, in one place, each with its reason.

Over a limit comes a clear error, never a silent drop. Nothing else in zmesh may define a protocol limit of its own.
Units are in the names or the comments: seconds are floats, sizes are bytes.
"""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# --- versions and identifiers ---
PROTOCOL_MIN: Final = 1  # the oldest version this code speaks
PROTOCOL_MAX: Final = 1  # the newest
ID_BYTES: Final = 16  # message and store ids: 128 bits, so that random ones never meet
LINK_ID_BYTES: Final = 8  # link ids live for one connection between two stores: 64 bits are plenty
NO_ID: Final = bytes(ID_BYTES)  # stands where no message has an id: a cursor at zero, a void number

# --- what msgpack may hold, in a header or an envelope ---
MAX_ARRAY: Final = 512  # entries of an array: OUTCOMES_PER_FRAME, the largest one that is specified
MAX_ARRAYS: Final = 2048  # in all, twice what the largest frame needs: an empty one is 1 octet, and 56 once it is read
MAX_DEPTH: Final = 16  # arrays within each other: the deepest that is specified has 4, and a reader's stack has an end

# --- names and texts (hostile until checked) ---
MAX_NAME: Final = 63  # one DNS label, because peer names appear in mDNS
MAX_WORD: Final = 16  # a status, or how an agent is reached: one column in a list
MAX_DEVICE: Final = 64  # a device id is 32 characters; room for its successor
MAX_TEXT: Final = 200  # reasons in refusals and BYE: a sentence, shown to people
MAX_CODE: Final = 32  # machine-readable reason
MAX_ENDPOINT: Final = 128  # tcp://[ipv6%zone]:port
MAX_ENDPOINTS: Final = 16  # interfaces of one machine
MAX_CAPABILITIES: Final = 32  # of one agent
MAX_AGENTS: Final = 4096  # mailboxes of one store; the goal is 1,000 agents on one daemon
AGENTS_PER_PAGE: Final = 100  # of one PEERS frame: with the longest words in any script they stay below MAX_FRAME

# --- one message ---
MAX_BODY: Final = 256 * KIB  # TCP heartbeats can time out during one huge message; 256 KiB take 0.2 s at 10 Mbit/s
MAX_ENVELOPE: Final = 2 * KIB  # to, from, type, thread, reply_to: names only
MAX_LOG_ID: Final = 32  # the hash of a founding record
MAX_LOG_BYTES: Final = 128 * KIB  # in one frame about a log: the vector of 1,024 logs has 80 KiB
MAX_FRAME: Final = 1 * MIB  # MAXMSGSIZE of the sockets: one batch of DATA with its header, doubled twice
MAX_TTL: Final = 366 * 86400.0  # seconds; a year: beyond it a ttl is a mistake in units
DEFAULT_TTL: Final = 7 * 86400.0  # seconds; mail for a peer that is away for a week

# --- batches of DATA ---
BATCH_MESSAGES: Final = 64  # more gains nothing measurable; fewer cost a system call each
BATCH_BYTES: Final = 64 * KIB  # a batch ends at this size (one larger message travels alone)

# --- flow control ---
CLASSES: Final = 5  # critical, high, normal, low, bulk
WINDOW_MESSAGES: Final = 1024  # credit per class beyond the cursor
IN_FLIGHT_BYTES: Final = 256 * KIB  # unacknowledged non-critical bytes per peer: 0.2 s of a 10 Mbit/s link, so that
#                                     a critical message is not stuck behind more
IN_FLIGHT_CRITICAL_BYTES: Final = 256 * KIB  # the critical class has its own budget, for the same reason
MARK_AHEAD: Final = 512  # numbers whose hand-over is marked in one commit when a backlog drains
ENDINGS_PER_ACK: Final = 64  # the cursor of an ACK stops before the first ending that does not fit
OUTCOMES_PER_FRAME: Final = 512  # 8 KiB of ids; no more than MAX_ARRAY
OUTCOMES_WINDOW: Final = 4096  # outcomes sent and not confirmed: 64 KiB of ids, sent again when a confirmation is late
MAX_EPOCH: Final = 1 << 32  # an epoch begins when a disk goes back in time: no honest peer gets far
CANCELS_PER_FRAME: Final = 256
STEPS_PER_TRACE: Final = 32  # of one message; one that is given back again and again has more, and no more are told
UNCOMMITTED_BYTES: Final = 32 * MIB  # received and not yet on disk; above it the shell stops reading
CACHED_BODY_BYTES: Final = 32 * MIB  # bodies kept in memory per direction; the others are read back from the store

# --- quotas: what holds unless this peer's owner says otherwise ---
QUOTA_MESSAGES: Final = 200_000  # un-ended outgoing messages per peer, twice the drain goal of the design
QUOTA_BYTES: Final = 512 * MIB  # of their bodies
MAILBOX_MESSAGES: Final = 20_000  # un-ended messages of one mailbox
MAILBOX_BYTES: Final = 128 * MIB
RATE_MESSAGES: Final = 20_000.0  # a second from one other device: several times what a peer can store
RATE_BYTES: Final = 100.0 * MIB  # a second, of their bodies: what a gigabit carries, so only a flood meets it
RATE_BURST: Final = 10.0  # seconds whose worth may come at once: a backlog that drains when two machines meet again
MOST_MESSAGES: Final = 1_000_000  # that a quota can allow: each un-ended message is a record of some 1 KiB in memory
MOST_BYTES: Final = 64 * KIB * MIB  # 64 GiB of bodies, which lie on disk: beyond it a quota is a mistake in units
MOST_RATE_MESSAGES: Final = 1_000_000  # a second: more than any peer can store
MOST_RATE_BYTES: Final = 10 * KIB * MIB  # a second: more than any network between two devices brings
MAX_PEERS: Final = 1024  # stores remembered; the one unseen for longest goes first
MAX_STORES: Final = 64  # of them of one other device: its machine's peer, and those of programs
NEW_STORES_PER_SECOND: Final = 1.0  # of one other device, after the first `MAX_STORES`: each is dialled at once
KEPT_ENDED: Final = 200_000  # ended rows per direction kept for receipts and for dedup across epochs; the oldest go.
#                              As many outcomes are kept for a store that does not come for them

# --- questions about messages ---
TRACES_PER_SECOND: Final = 10.0  # answered to one other device: people ask them, and each is a question to the store
TRACES_AT_ONCE: Final = 50.0  # of one other device, before that rate counts
TRACES_ANSWERED: Final = 32  # being looked up at a time, for all devices: the store has more important things to do
TRACE_PATIENCE: Final = 2.0  # seconds for an answer: who waits is a person, and an older peer never gives one
TRACE_AGAIN: Final = 0.7  # seconds after which it is asked once more: frames may be lost
ARRIVALS_KEPT: Final = 4096  # messages of which it is remembered when they came: some 700 KiB

# --- looking into mailboxes ---
MAX_PEEKED: Final = 200  # messages of one look: a person reads no more, and they are told in one frame of the daemon's
PEEKED_BYTES: Final = 16 * KIB  # of each body: its first line is shown

# --- leases ---
MAX_ATTEMPTS: Final = 8  # leases of one message before it is dead: a poison message must end
ALONE_PATIENCE: Final = 5.0  # seconds a message whose holder went away waits to be leased alone
REDELIVERY_FIRST: Final = 0.25  # seconds before the second delivery; doubles
REDELIVERY_MAX: Final = 60.0

# --- links (seconds) ---
HELLO_FIRST: Final = 0.1  # first repetition of an unanswered HELLO; doubles
HELLO_MAX: Final = 1.0
DIAL_PATIENCE: Final = 3.0  # a socket that brought no answer for so long is replaced: TCP may sit in a long back-off
ANSWER_AFTER: Final = 0.1  # who calls and is not reached is answered on its own connection: on a network that loses
#                            packets the first connection serves both, and on others dialling takes 0.03 s
GREET_PATIENCE: Final = 0.5  # more than a round trip: they greet, and do not echo what our own connection carries. It
#                              is stuck, and theirs is taken. Doubles with each time, for who is far away
ONE_WAY_MEMORY: Final = 60.0  # so long it is remembered that who calls was not reached: over two of its rare probes
REDIAL_FIRST: Final = 0.1
REDIAL_MAX: Final = 2.0  # traffic resumes within 3 s of a healed network
ABSENT_AFTER: Final = 300.0  # unanswered for so long: probe rarely
ABSENT_REDIAL: Final = 30.0
OVERSLEPT: Final = 30.0  # a timer that is so late says that we were away, and not the others
PING_FIRST: Final = 0.25  # while anything is unacknowledged
PING_MAX: Final = 5.0
IDLE_PING: Final = 5.0  # seconds of silence before a peer is asked for a sign of life
SILENCE: Final = 12.0  # no frame for so long: the link is down
STALLED: Final = 3.0  # unacknowledged and no frame for so long: the connection is replaced
LINKS_REMEMBERED: Final = 16  # of another store, which newer ones have replaced: their HELLOs are late ones
RESET_INTERVAL: Final = 0.1  # at most one RESET per connection in this time
REWIND_INTERVAL: Final = 0.25  # at most one request to rewind per class in this time without progress
STORE_RETRY: Final = 0.5  # after a failed commit
REQUEUE_FIRST: Final = 0.5  # a temporarily refused message is sent again after this; doubles
REQUEUE_MAX: Final = 30.0
BYE_REDIAL: Final = 1.0  # a peer that said BYE is not dialled at once, unless it is sighted
REST_REDIAL: Final = 15.0  # nor is one that is paused, which dials by itself when it is resumed: this is for those who
#                            cannot be dialled

# --- the roster (seconds): together they leave time on the wire, for others to know of a change within a second ---
ROSTER_GAP: Final = 0.2  # between two versions of the roster: short-lived clients come and go in bursts
STATUS_LASTS: Final = 0.4  # an agent that became busy or idle is looked at again after this: messages are shorter
