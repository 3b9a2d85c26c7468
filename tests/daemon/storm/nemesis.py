"""The nemesis: it kills the daemon and its clients with SIGKILL, and sees at the end what is left.

The victims and moments follow from the seed; what the machine makes of them does not, so a seed repeats the plan of a
storm and not each instruction of it.
"""

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import zmesh
from tests.daemon.storm.verdict import judge, promised
from tests.daemon.storm.worker import ANNEX, MAILBOX, PEER, main
from tests.daemon_home import daemons
from tests.storm.journal import Watch
from tests.storm.processes import Fork, Process, wait_until
from tests.storm.verdict import Verdict
from zmesh.daemon.connecting import connected

CREW = (
    ("blocking", "send", "north"), ("blocking", "send", "south"), ("async", "send", "east"),
    ("blocking", "receive", "first"), ("blocking", "receive", "second"), ("async", "receive", "third"),
    ("blocking", "administer", "keeper"),
)  # fmt: skip
VICTIMS = {
    "sender": "send", "receiver": "receive", "keeper": "administer", "keeper and daemon": "administer", "both": "",
}  # fmt: skip
LULL = 1.0  # seconds at most between a sign of life and the next kill
START = 60.0  # seconds for everything to be at work on a busy machine
DRAIN = 240.0  # seconds until everything must be handled
SETTINGS = f'name = "{PEER}"\ndiscovery = ["rendezvous"]\nport = 17460\n'


@dataclass(slots=True)
class Program:
    """One program of the storm, through all its lives."""

    kind: str
    role: str
    name: str
    home: Path
    lives: int = 0
    child: Process | None = None
    watch: Watch = field(init=False)

    def __post_init__(self) -> None:
        self.watch = Watch(self.log)

    @property
    def log(self) -> Path:
        return self.home.parent / f"{self.name}.log"

    @property
    def process(self) -> Process:
        assert self.child is not None
        return self.child

    def start(self) -> None:
        """Begin another life."""
        self.lives += 1
        self.watch.forget()
        arguments = [self.kind, self.role, self.name, str(self.lives), str(self.home), str(self.log)]
        self.child = Fork(self.name, main, arguments, self.home.parent / f"{self.name}.err")

    @property
    def moved(self) -> int:
        """How much of its work this life has done."""
        self.watch.look()
        return self.watch.sent + self.watch.done

    @property
    def quiet(self) -> bool:
        """Whether it has nothing left to send."""
        self.watch.look()
        return self.watch.quiet


class Storm:
    """Kills for so many seconds.

    Attributes:
        verdict: What was found.
    """

    def __init__(self, seed: int, place: Path) -> None:
        """Plan a storm; `place` is an empty directory on a disk."""
        self.verdict = Verdict()
        self._random = random.Random(seed)
        self._home = place / "home"
        self._home.mkdir(mode=0o700)
        (self._home / "config.toml").write_text(SETTINGS)
        self._programs = [Program(kind, role, name, self._home) for kind, role, name in CREW]

    def run(self, seconds: float, say: Callable[[str], None]) -> Verdict:
        """Kill for so long, then see what is left."""
        try:
            for mailbox in (MAILBOX, ANNEX):  # they are there before the first message
                zmesh.connect(mailbox, home=self._home).close()
            for program in self._programs:
                program.start()
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                self._strike()
            self._at_work()
            say(f"{self.verdict.totals['kills']} kills; now everything is handled")
            self._drain()
            self._end()
        finally:
            for program in self._programs:
                program.process.kill()
            for pid in daemons(self._home):
                self.verdict.blame("daemons outlive the storm", [pid])
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.verdict.add(judge(self._home, [program.log for program in self._programs]))
        return self.verdict

    # --- killing ---

    def _strike(self) -> None:
        """Kill when something has moved since the last time, or at once."""
        what = self._random.choice(
            ("daemon", "daemon", "daemon", "end", "sender", "receiver", "keeper", "keeper and daemon", "both", "reload")
        )
        hasty = self._random.random() < 0.25  # a daemon that is just being started, a client that comes back to it
        lull = self._random.random() * (0.1 if hasty else LULL)
        if not hasty:
            self._at_work()
        time.sleep(lull)  # the moment is a part of the storm: nothing is waited for
        if what in {"daemon", "both", "keeper and daemon"}:
            self._hit(signal.SIGKILL)
        if what == "reload":
            self._hit(signal.SIGHUP)
        if what == "end":
            self._hit(signal.SIGTERM)
        if what not in {"daemon", "end", "reload"}:
            role = VICTIMS[what]
            victim = self._random.choice([each for each in self._programs if each.role == role or not role])
            victim.process.kill()
            victim.start()
        self.verdict.totals["kills"] += 1
        self.verdict.totals[f"kills of {what}"] += 1

    def _at_work(self) -> None:
        senders = [program for program in self._programs if program.role == "send"]
        before = {program.name: program.moved for program in senders}
        self._await(lambda: all(program.moved > before[program.name] for program in senders), "all are at work")

    def _hit(self, how: signal.Signals) -> None:
        for pid in daemons(self._home):
            with suppress(ProcessLookupError):
                os.kill(pid, how)
                self.verdict.totals["daemons hit"] += 1

    # --- the end ---

    def _drain(self) -> None:
        began = time.monotonic()
        active = [program for program in self._programs if program.role != "receive"]
        for program in active:
            program.process.tell("drain")
        self._await(lambda: all(program.quiet for program in active), "the senders are quiet", DRAIN)
        with connected(self._home) as looking:
            open_ids = promised([program.log for program in self._programs])

            def all_handled() -> bool:
                while open_ids:
                    try:
                        told = looking.call("receipt", ident=bytes.fromhex(open_ids[-1]))
                    except zmesh.UnknownMessage:  # it had ended, and was purged: the stores say whether that is true
                        told = {"state": "handled"}
                    if told["state"] not in {"handled", "dead"}:
                        return False
                    open_ids.pop()
                return True

            self._await(all_handled, "everything acknowledged is handled", DRAIN)
        self.verdict.totals["drained, ms"] = int(1000 * (time.monotonic() - began))
        for program in self._programs:
            program.process.tell("quit")
            status = program.process.end()
            assert status == 0, f"{program.process} ended with {status}\n{program.process.tail()}"

    def _end(self) -> None:
        """Nothing needs a human: a daemon that was killed once more is there for who asks, and goes when told to."""
        self._hit(signal.SIGKILL)
        with connected(self._home) as looking:
            holding = [each for each in looking.call("daemon.status")["clients"] if each["holds"]]
            self.verdict.blame("leases are held by nobody", holding)
            self.verdict.blame("daemons run beside another", daemons(self._home)[1:])
            looking.call("daemon.down")
        wait_until(lambda: not daemons(self._home), 30, "the daemon ends")
        left = [path.name for path in (self._home / "daemon").iterdir() if path.name in {"socket", "address.json"}]
        self.verdict.blame("traces of the daemon are left", left)

    def _await(self, condition: Callable[[], object], what: str, seconds: float = START) -> None:
        def holds() -> object:
            for program in self._programs:
                program.process.check()
            return condition()

        try:
            wait_until(holds, seconds, what)
        except AssertionError as error:
            tails = "\n".join(program.process.tail() for program in self._programs)
            log = self._home / "daemon" / "daemon.log"
            raise AssertionError(f"{error}\n{tails}\n{log.read_text()[-6000:] if log.exists() else ''}") from None
