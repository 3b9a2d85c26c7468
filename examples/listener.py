"""A program that listens at this machine's daemon, and one that asks it something and goes.

Run it in one terminal: python examples/listener.py
And in another: python examples/listener.py "What is OAuth 2.0?"

Ctrl-C ends the first. The daemon is started if it is not running, and holds the mail of both: `zmesh down` ends it.
"""

import asyncio
import contextlib
import sys
from typing import Any

import zmesh


async def listen() -> None:
    async with zmesh.connect_async("librarian", role="librarian") as librarian:

        @librarian.on("ask")
        async def answer(message: Any) -> dict[str, str]:
            print(f"{message.sender} asks: {message.body['text']}", flush=True)
            return {"text": "I would read the RFC."}  # the answer, and the message is done

        print(f"{librarian.address} listens", flush=True)
        await librarian.listen()


def ask(question: str) -> None:
    with zmesh.connect("reader") as reader:  # the blocking client has the same verbs
        print(reader.ask("librarian", {"text": question}, timeout=60).body["text"])


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        if len(sys.argv) > 1:
            ask(sys.argv[1])
        else:
            asyncio.run(listen())
