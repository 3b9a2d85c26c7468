"""Questions and answers between two processes.

In one terminal:    python examples/ask_and_answer.py answer
In another:         python examples/ask_and_answer.py ask "What is OAuth 2.0?"

Kill and restart either of them whenever you like: the question waits, and the answer comes.
"""

import asyncio
import sys

import zmesh


async def answer() -> None:
    async with zmesh.Peer("studio") as peer:
        browser = await peer.agent("browser", role="researcher")
        print("browser@studio is listening", flush=True)
        async for message in browser.inbox():
            print(f"{message.sender} asks: {message.body['text']}", flush=True)
            # The answer and the end of the question are one transaction: no crash can separate them.
            await message.done(reply={"text": f"You asked {message.body['text']!r}. I would read the RFC."})


async def ask(question: str) -> None:
    async with zmesh.Peer("pipeline") as peer:
        code = await peer.agent("code", role="coder")
        reply = await code.ask("browser@studio", {"text": question}, timeout=60)
        print(f"{reply.sender} answers: {reply.body['text']}")


if sys.argv[1:2] == ["answer"]:
    asyncio.run(answer())
elif sys.argv[1:2] == ["ask"] and len(sys.argv) == 3:  # noqa: PLR2004 - program, verb, question
    asyncio.run(ask(sys.argv[2]))
else:
    sys.exit(__doc__)
