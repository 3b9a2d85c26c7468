"""The people and programs around one store: senders with their own log, and consumers that finish, hold or leave.

They use commands and effects only, as real applications do. What they remember of their sends survives every crash;
what they remember of their leases does not.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b

from tests.simulator.log import Fact, Log, Sending
from tests.simulator.oracle import Oracle
from tests.simulator.plan import Plan
from tests.simulator.process import Process
from tests.simulator.world import World
from zmesh.errors import LeaseLost, MeshError, MeshFull
from zmesh.protocol.commands import (
    Attach,
    CancelSend,
    Detach,
    Done,
    Halt,
    MoveMail,
    Nack,
    OpenMailbox,
    Release,
    Replay,
    Send,
    Sighted,
    Take,
    Untake,
)
from zmesh.protocol.effects import Delivery, Failed, Settled
from zmesh.protocol.priority import Priority

MAX_TRIES = 40  # of one send that finds the mesh full or its own store down
WALL = 1_700_000_000_000  # milliseconds: what the wall clock shows at the beginning


@dataclass(eq=False)
class Holder:
    """One consumer of one mailbox, in one process.

    Attributes:
        here: It is attached.
        holding: Rows it was given and has not finished.
    """

    id: int
    mailbox: str
    here: bool = True
    holding: dict[int, Delivery] = field(default_factory=dict)


@dataclass(frozen=True)
class Ticket:
    """What a ticket was given out for."""

    kind: str
    sending: Sending | None = None
    holder: Holder | None = None
    delivery: Delivery | None = None
    mailbox: str = ""
    store: bytes = b""


class App:
    """All applications of one store.

    Attributes:
        mailboxes: The mailboxes that are opened by now.
        halted: The stores that were disconnected, and empty for all, and may be so still.
        calm: The storm is over: everybody behaves.
    """

    def __init__(self, world: World, plan: Plan, process: Process, oracle: Oracle, log: Log) -> None:
        self.mailboxes: list[str] = ["m0", "m1"]
        self.calm = False
        self.sightings: dict[bytes, Sighted] = {}
        self.halted: set[bytes] = set()
        self._halting: dict[bytes, int] = {}
        self._tidying = False
        self._world = world
        self._plan = plan
        self._process = process
        self._oracle = oracle
        self._log = log
        self._random = world.random(f"app/{process.index}")
        self._next = 0
        self._tickets: dict[int, Ticket] = {}
        self._holders: dict[int, Holder] = {}
        self._unanswered: set[bytes] = set()
        process.app = self

    # --- life and death of the process ---

    def started(self) -> None:
        """The process runs: open the mailboxes and attach the consumers."""
        for mailbox in self.mailboxes:
            self._later(0.0, self._open, mailbox)
        for sighted in self.sightings.values():
            self._later(self._random.random(), self.sight, sighted)

    def stopped(self) -> None:
        """The process died: what was asked and not answered may have happened or not."""
        for ticket in self._tickets.values():
            sending = ticket.sending
            if sending is not None and sending.fact is Fact.ASKED:
                sending.fact, sending.doubtful = Fact.UNKNOWN, True
                # A reply comes again when its request does; it derives from it.
                if ticket.kind == "send" and self._random.random() < self._plan.retries:
                    self._world.after(self._random.random(), self.send, sending)
        self._tickets.clear()
        self._holders.clear()
        self._tidying = False

    def open(self, mailbox: str) -> None:
        """Open one more mailbox."""
        if mailbox not in self.mailboxes:
            self.mailboxes.append(mailbox)
            if self._running:
                self._open(mailbox)

    def sight(self, sighted: Sighted) -> None:
        """Discovery saw another store."""
        self.sightings[sighted.store] = sighted
        if self._running:
            self._process.command(sighted)

    def halt(self, store: bytes) -> None:
        """An administrator disconnects a store, or pauses all mail if it is empty."""
        if self._running:
            number = self._halting[store] = self._ticket(Ticket("halt", store=store))
            try:
                self._process.command(Halt(number, store, "somebody"))
            except MeshError:
                self._tickets.pop(number)  # that store is not known yet
                return
            self.halted.add(store)
            self._oracle.totals["halts"] += 1

    def release(self, store: bytes) -> None:
        """An administrator connects a store again, or all of them."""
        if self._running:
            self._halting.pop(store, None)
            self._oracle.wire.halted.discard((self._process.index, store))
            self._process.command(Release(self._ticket(Ticket("release", store=store)), store))

    def move(self, name: str, into: str) -> None:
        """Somebody moves what nobody has taken into another mailbox, and what is dead."""
        dead = tuple([row.row for row in self._process.disk.model.dead(name)])
        self._tidy(lambda ticket: MoveMail(ticket, name, into, dead))

    def has_dead(self, name: str) -> bool:
        """Say whether somebody who looks finds dead messages in a mailbox."""
        return bool(self._process.disk.model.dead(name))

    def replay(self, name: str) -> None:
        """Somebody has dead messages delivered again."""
        rows = self._process.disk.model.dead(name)
        self._tidy(lambda ticket: Replay(ticket, name, rows))

    def _tidy(self, command: Callable[[int], MoveMail | Replay]) -> None:
        if self._tidying or self.calm or not self._running:
            return  # one at a time: what the disk says must still be so
        number = self._ticket(Ticket("tidy"))
        self._tidying = True
        try:
            self._process.command(command(number))
            self._oracle.totals["tidyings"] += 1
        except MeshError:
            self._tickets.pop(number)  # there is no room, or no such mailbox yet
            self._tidying = False

    def settle_down(self) -> None:
        """The storm is over: finish what is held, take what comes."""
        self.calm = True
        for store in sorted(self.halted):  # also what a disk remembers that went back in time
            self.release(store)
        if self._running:
            for holder in list(self._holders.values()):
                if holder.here and holder.holding and self._running:
                    self._leave(holder, grace=0.0)
            for mailbox in self.mailboxes:
                self._open(mailbox)

    @property
    def _running(self) -> bool:
        return self._process.up and not self._process.paused

    def _ticket(self, ticket: Ticket) -> int:
        self._next += 1
        self._tickets[self._next] = ticket
        return self._next

    def _later(self, delay: float, action: Callable[..., None], *arguments: object) -> None:
        """Do something in this process, if it still runs then."""
        self._world.after(delay, self._now, self._process.incarnation, action, arguments)

    def _now(self, incarnation: int, action: Callable[..., None], arguments: tuple[object, ...]) -> None:
        if incarnation != self._process.incarnation or not self._process.up:
            return
        if self._process.paused:
            self._later(0.1, action, *arguments)
            return
        action(*arguments)

    # --- sending ---

    def send(self, sending: Sending) -> None:
        """Send, or try again later when the process is down or full."""
        if sending.fact is Fact.SETTLED:
            return
        sending.tries += 1
        if not self._running:
            if sending.tries < MAX_TRIES:
                self._world.after(0.5, self.send, sending)
            return
        number = self._ticket(Ticket("send", sending))
        self._log.add(sending)
        sending.fact = Fact.ASKED
        try:
            self._process.command(self._command(number, sending))
        except MeshFull:
            self._oracle.totals["full"] += 1
            self._refused(number)
            if sending.tries < MAX_TRIES:
                self._world.after(1.0, self.send, sending)
        except MeshError:
            self._oracle.totals["not sent"] += 1
            self._refused(number)

    def _refused(self, number: int) -> None:
        """The call raised: nothing of it happened."""
        ticket = self._tickets.pop(number, None)
        if ticket is not None and ticket.sending is not None:
            ticket.sending.not_done()

    def _command(self, ticket: int, sending: Sending) -> Send:
        return Send(
            ticket=ticket,
            id=sending.id,
            address=sending.address,
            sender=sending.sender,
            priority=sending.priority,
            ttl=sending.ttl,
            type="task",
            thread=b"",
            reply_to=sending.reply_to,
            sent_at=WALL + int(self._world.now * 1000) + self._random.choice((0, 3_600_000, -3_600_000)),
            packed=False,
            body=sending.body,
        )

    # --- answers of the core ---

    def settled(self, effect: Settled) -> None:
        """A command is on disk."""
        ticket = self._tickets.pop(effect.ticket, None)
        if ticket is None:
            self._oracle.fail(self._process.name, f"ticket {effect.ticket} is settled, and nobody waits for it")
        if ticket.sending is not None:
            self._oracle.settled(self._process, ticket.sending)
            if ticket.kind == "send" and not self.calm and self._random.random() < self._plan.cancels:
                self._later(self._random.random() * 3, self._cancel, ticket.sending)
        if ticket.kind == "done":
            assert ticket.delivery is not None
            self._oracle.settled_done(self._process, ticket.delivery.row)
        if ticket.kind == "halt" and self._halting.get(ticket.store) == effect.ticket:
            self._oracle.wire.halted.add((self._process.index, ticket.store))
        if ticket.kind == "tidy":
            self._tidying = False
        if ticket.kind == "mailbox":
            self._oracle.settled_mailbox(self._process, ticket.mailbox)
            self._later(0.0, self._attach, ticket.mailbox)
        if ticket.holder is not None and ticket.holder.here:
            self._later(0.0, self._take, ticket.holder, 1)

    def failed(self, effect: Failed) -> None:
        """A command was not carried out."""
        ticket = self._tickets.pop(effect.ticket, None)
        if ticket is None:
            self._oracle.fail(self._process.name, f"ticket {effect.ticket} failed, and nobody waits for it")
        self._oracle.totals["failed"] += 1
        sending = ticket.sending
        if sending is not None:
            sending.not_done()
        if ticket.kind == "send" and sending is not None and self._random.random() < self._plan.retries:
            self._world.after(0.2 + self._random.random(), self.send, sending)
        if ticket.kind == "tidy":
            self._tidying = False
        if ticket.kind == "mailbox":
            self._later(0.5, self._open, ticket.mailbox)
        if ticket.kind == "release":
            self._later(0.5, self.release, ticket.store)
        if ticket.holder is not None and ticket.delivery is not None:
            ticket.holder.holding[ticket.delivery.row] = ticket.delivery
            self._later(0.2, self._react, ticket.holder, ticket.delivery)

    def delivered(self, delivery: Delivery) -> None:
        """A message came."""
        holder = self._holders.get(delivery.holder)
        if holder is None or not holder.here:
            # It went away meanwhile; the lease returns by itself, unless the holder comes back for it.
            self._oracle.released(self._process, (delivery.row,))
        if holder is None:
            return
        self._oracle.given(self._process, delivery, holder.mailbox)
        holder.holding[delivery.row] = delivery
        self._later(self._random.random() * self._random.choice((0.001, 0.05)), self._react, holder, delivery)

    # --- consuming ---

    def _open(self, mailbox: str) -> None:
        number = self._ticket(Ticket("mailbox", mailbox=mailbox))
        self._process.command(OpenMailbox(number, mailbox, "worker", ()))

    def _attach(self, mailbox: str) -> None:
        """Attach a consumer, unless one is there."""
        if any(holder.here and holder.mailbox == mailbox for holder in self._holders.values()):
            return
        for _ in range(1 if self.calm else self._random.choice((1, 1, 2))):
            if self._running:
                self._next += 1
                holder = self._holders[self._next] = Holder(self._next, mailbox)
                self._process.command(Attach(mailbox, holder.id))
                self._take(holder, self._random.choice((1, 2, 10)))

    def _take(self, holder: Holder, count: int) -> None:
        if holder.here and self._running:
            self._process.command(Take(holder.id, count))
            if not self.calm and self._random.random() < self._plan.leave and self._running:
                self._process.command(Untake(holder.id))
                self._later(self._random.random(), self._take, holder, count)

    def _react(self, holder: Holder, delivery: Delivery) -> None:
        if holder.holding.get(delivery.row) is not delivery or not holder.here:
            return
        chance = 1.0 if self.calm else self._random.random()
        if chance < self._plan.hold:
            return  # kept, until the holder leaves
        if chance < self._plan.hold + self._plan.leave:
            self._leave(holder, self._random.choice((0.0, 0.5)))
        elif chance < self._plan.hold + self._plan.leave + self._plan.nack:
            self._nack(holder, delivery)
        else:
            self._done(holder, delivery)

    def _done(self, holder: Holder, delivery: Delivery) -> None:
        reply = self._reply(delivery)
        number = self._ticket(Ticket("done", reply, holder, delivery))
        command = None
        if reply is not None:
            if reply.fact is not Fact.SETTLED:
                reply.fact = Fact.ASKED
            command = self._command(self._ticket(Ticket("reply", reply)), reply)
        self._finishing(holder, delivery)
        try:
            self._process.command(Done(number, holder.id, delivery.row, command))
        except LeaseLost:
            self._lease_lost(holder)
        except MeshError:
            # It may be this very mailbox that is full: without the reply it gets emptier.
            self._oracle.totals["full"] += 1
            self._unanswered.add(delivery.id)
            holder.holding[delivery.row] = delivery
            self._later(1.0, self._react, holder, delivery)
        else:
            return
        self._refused(number)
        if command is not None:
            self._refused(command.ticket)

    def _reply(self, delivery: Delivery) -> Sending | None:
        sender = delivery.envelope.sender
        index = self._oracle.index_of.get(delivery.source)
        if delivery.id in self._unanswered or delivery.envelope.reply_to or index is None:
            return None
        if delivery.id[0] >= 256 * self._plan.replies:
            return None
        ident = blake2b(b"reply" + delivery.id, digest_size=16).digest()
        return self._log.add(
            Sending(
                id=ident,
                source=self._process.index,
                target=index,
                mailbox="m0",
                address=f"m0@{sender.partition('@')[2]}",
                priority=Priority(delivery.priority),
                ttl=None,
                body=delivery.id,
                reply_to=delivery.id,
                sender=delivery.envelope.to,
                fact=Fact.FAILED,
            )
        )

    def _nack(self, holder: Holder, delivery: Delivery) -> None:
        number = self._ticket(Ticket("nack", None, holder, delivery))
        self._finishing(holder, delivery)
        delay = self._random.choice((None, 0.0, 0.5))
        try:
            self._process.command(Nack(number, holder.id, delivery.row, delay=delay, count=self._random.random() < 0.8))
        except LeaseLost:
            self._lease_lost(holder)
            self._tickets.pop(number, None)

    def _lease_lost(self, holder: Holder) -> None:
        """It was given to somebody else: take another one instead."""
        self._oracle.totals["lease lost"] += 1
        self._later(0.0, self._take, holder, 1)

    def _finishing(self, holder: Holder, delivery: Delivery) -> None:
        holder.holding.pop(delivery.row, None)
        self._oracle.released(self._process, (delivery.row,))

    def _leave(self, holder: Holder, grace: float) -> None:
        """Detach, and have somebody attach again; with a grace, sometimes the same holder."""
        holder.here = False
        rows = list(holder.holding)
        back = grace > 0 and self._random.random() < 0.5
        if not back:
            self._holders.pop(holder.id, None)
        self._oracle.released(self._process, rows)
        self._process.command(Detach(holder.id, grace))
        if back:
            self._later(grace * self._random.random(), self._come_back, holder)
        else:
            self._later(0.1, self._attach, holder.mailbox)

    def _come_back(self, holder: Holder) -> None:
        """Attach again within the grace: the leases are still ours."""
        holder.here = True
        self._process.command(Attach(holder.mailbox, holder.id))
        if self._running:
            self._take(holder, 2)
        for delivery in list(holder.holding.values()):
            self._later(0.01, self._react, holder, delivery)

    def _cancel(self, sending: Sending) -> None:
        sending.cancelled = True
        self._process.command(CancelSend(sending.id))
