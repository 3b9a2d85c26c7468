"""Two peers in one program: an agent on one sends a message to an agent on the other.

Run it as it stands: python examples/hello.py
"""

import asyncio

import zmesh


async def main() -> None:
    async with zmesh.Peer("hello-laptop") as laptop, zmesh.Peer("hello-studio") as studio:
        code = await laptop.agent("code", role="coder")
        browser = await studio.agent("browser", role="researcher")

        # Returns once the message is on laptop's disk. The two peers may not even have found each other yet.
        receipt = await code.send("browser@hello-studio", {"text": "Research OAuth 2.0"}, priority="high")
        print("sent:", receipt.state)

        await receipt.stored(timeout=10)  # it is on studio's disk, too
        print("stored:", receipt.state)

        async for message in browser.inbox():
            print(f"{message.sender} says: {message.body['text']}")
            await message.done()
            break

        await receipt.handled(timeout=10)  # browser is done with it
        print("handled:", receipt.state)


asyncio.run(main())
