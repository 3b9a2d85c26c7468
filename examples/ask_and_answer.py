"""Questions and answers between two processes.

In one terminal:    python examples/ask_and_answer.py answer
In another:         python examples/ask_and_answer.py ask "What is OAuth 2.0?"

The question waits on disk for somebody to answer it: start them in any order, within a minute.
"""

import asyncio
import sys
from contextlib import suppress

import zmesh


async def answer() -> None:
    async with zmesh.Peer("answering") as peer:
        librarian = await peer.agent("librarian", role="researcher")
        print("librarian@answering is listening", flush=True)
        async for message in librarian.inbox():
            print(f"{message.sender} asks: {message.body['text']}", flush=True)
            # The answer and the end of the question are one transaction: no crash can separate them.
            await message.done(reply={"text": f"You asked {message.body['text']!r}. I would read the RFC."})


async def ask(question: str) -> None:
    async with zmesh.Peer("asking") as peer:
        code = await peer.agent("code", role="coder")
        print("asking librarian@answering", flush=True)
        reply = await code.ask("librarian@answering", {"text": question}, timeout=60)
        print(f"{reply.sender} answers: {reply.body['text']}")


if sys.argv[1:] == ["answer"]:
    with suppress(KeyboardInterrupt):
        asyncio.run(answer())
elif sys.argv[1:2] == ["ask"] and len(sys.argv) == 3:  # noqa: PLR2004 - program, verb, question
    try:
        asyncio.run(ask(sys.argv[2]))
    except TimeoutError as error:  # nobody has answered within the minute
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)  # as the shell has it
else:
    sys.exit(__doc__)
