"""What is asked of mailboxes a second time, since the daemon went away before its answer: the first time counts."""

import asyncio
from pathlib import Path
from typing import Any

from tests.conftest import take
from tests.daemon.served import Raw, serving
from zmesh.daemon.mailboxes import MailboxVerbs
from zmesh.daemon.wire import FAILED, OK
from zmesh.protocol.bounds import MAX_ATTEMPTS


def test_a_repeated_request_that_has_been_carried_out_is_no_error(home: Path) -> None:
    async def scenario() -> None:
        async with serving(home) as (peer, server, place):
            verbs = MailboxVerbs(peer.mailboxes, lambda: server.sessions)
            rules: dict[str, Any] = {"mailbox.replay": verbs.replay, "mailbox.remove": verbs.remove}
            server._control = lambda verb, asked: rules[verb](**asked)  # noqa: SLF001 - as the daemon's
            ann, holder = await peer.agent("ann"), await peer.attach("in")
            sent = await ann.send("in", "hello")
            for _ in range(MAX_ATTEMPTS):
                await (await take(holder)).nack(0.0)
            raw = await Raw.greeted(place, None)
            asked = {"name": "in", "ident": sent.id}
            assert (await raw.ask("mailbox.replay", asked))[1:] == [OK, {"replayed": 1}]
            assert (await raw.ask("mailbox.replay", asked | {"again": True}))[1:] == [OK, {"replayed": 0}]
            assert (await raw.ask("mailbox.replay", asked))[1:3] == [FAILED, "UnknownMessage"]
            await (await take(holder)).done()
            await holder.detach()
            assert (await raw.ask("mailbox.remove", {"name": "in"}))[1:] == [OK, {"removed": "in"}]
            assert (await raw.ask("mailbox.remove", {"name": "in", "again": True}))[1:] == [OK, {"removed": "in"}]
            assert (await raw.ask("mailbox.remove", {"name": "in"}))[1:3] == [FAILED, "AddressError"]

    asyncio.run(scenario())
