"""`zmesh send`, `zmesh ask`, `zmesh wait`: a message from the command line, its answer, and what became of it.

The id of a message that is on disk is printed whatever happens afterwards. Nothing of it must be read into memory
beyond the bound of a body.
"""

import json
import sys
from typing import Any, BinaryIO, Final

import click

from zmesh.cli.options import as_option, complete_address, json_option, opened, read_ident, read_timeout, read_ttl
from zmesh.cli.printing import described, harmless, print_body, print_json
from zmesh.daemon.client import ClientReceipt
from zmesh.daemon.connecting import connected
from zmesh.daemon.silence import NotHeard
from zmesh.errors import BodyTooLarge
from zmesh.peer.arguments import PRIORITY_NAMES
from zmesh.protocol.bounds import DEFAULT_TTL, MAX_BODY

ASK_TIMEOUT: Final = 60.0  # seconds, as of `Agent.ask`
STDIN: Final = "-"


def _one_text(ctx: click.Context, param: click.Parameter, words: tuple[str, ...]) -> str | None:  # noqa: ARG001 - click's
    """Several words would be a guess at what is meant: `zmesh send ann bob hello` lacks --as."""
    if len(words) > 1:
        raise click.UsageError(f'the text is one argument: write it in quotes, "{" ".join(words)}"', ctx)
    return words[0] if words else None


def _body_options(command: Any) -> Any:
    for option in (
        click.option(
            "--strict", is_flag=True, help="Refuse a mailbox that is not there yet, instead of waiting for it."
        ),
        click.option(
            "--priority", type=click.Choice(list(PRIORITY_NAMES.values())), default="normal", help="normal by default."
        ),
        click.option("--bytes", "as_bytes", is_flag=True, help="Send standard input as bytes, as they are."),
        click.option("--json-body", is_flag=True, help="TEXT is JSON: send that value."),
        as_option,
    ):
        command = option(command)
    return command


@click.command()
@click.argument("to", shell_complete=complete_address)
@click.argument("text", nargs=-1, metavar="[TEXT]", callback=_one_text)
@_body_options
@click.option("--type", "kind", default="message", help="What kind of message it is; message by default.")
@click.option(
    "--ttl",
    metavar="TIME",
    callback=read_ttl,
    type=str,
    default=DEFAULT_TTL,
    help="How long it may wait for somebody to take it; 7d by default.",
)
@click.option("--thread", metavar="ID", callback=read_ident, help="The conversation it belongs to.")
@click.option("--reply-to", metavar="ID", callback=read_ident, help="The message it answers.")
@click.option("--wait", "until", type=click.Choice(["stored", "handled"]), help="Wait until it has got so far.")
@click.option(
    "--timeout",
    metavar="TIME",
    callback=read_timeout,
    help="How long to wait for that; as long as it takes by default.",
)
@json_option
def send(
    *, to: str, text: str | None, mailbox: str | None, json_body: bool, as_bytes: bool, strict: bool, until: str | None,
    timeout: float | None, as_json: bool, kind: str, **properties: Any,
) -> None:  # fmt: skip
    """Send a message to the agent TO: agent@peer, or agent where only one peer has it.

    It is on this machine's disk when this returns, and waits there for as long as the other one is away. Without TEXT,
    or for -, standard input is sent, without its last line break. The body is {"text": TEXT}.

    Prints the message's id, where it goes, and its state.
    """
    body = _body(text, json_body=json_body, as_bytes=as_bytes)
    with opened(mailbox, here=False, timeout=timeout if until else None) as client:
        receipt = client.send(to, body, type=kind, strict=strict, **properties)
        if receipt.warning:
            click.echo(f"warning: {harmless(receipt.warning)}", err=True)
        try:
            if until is not None:
                _wait(receipt, until, timeout)
        finally:  # it is sent, whatever the wait has come to
            _tell(receipt, as_json=as_json)


@click.command()
@click.argument("to", shell_complete=complete_address)
@click.argument("text", nargs=-1, metavar="[TEXT]", callback=_one_text)
@_body_options
@click.option("--type", "kind", default="ask", help="What kind of message it is; ask by default.")
@click.option(
    "--timeout",
    metavar="TIME",
    callback=read_timeout,
    type=str,
    default=ASK_TIMEOUT,
    help="How long to wait for the answer; 60s by default.",
)
@click.option("--raw", is_flag=True, help="Print the answer as it is, on a terminal too.")
@json_option
def ask(
    *, to: str, text: str | None, mailbox: str | None, json_body: bool, as_bytes: bool, kind: str, raw: bool,
    as_json: bool, **properties: Any,
) -> None:  # fmt: skip
    """Send a question to the agent TO, wait for the answer and print it.

    Exit code 3 when there is none in time: the question is then not delivered any more if nobody has taken it, and an
    answer that comes later goes to the inbox.
    """
    body = _body(text, json_body=json_body, as_bytes=as_bytes)
    with opened(mailbox, here=False, timeout=properties["timeout"]) as client:
        answer = client.ask(to, body, type=kind, **properties)
    if as_json:
        print_json(described(answer))
    else:
        print_body(answer.body, exact=raw or not sys.stdout.isatty())


@click.command()
@click.argument("ident", metavar="ID", callback=read_ident)
@click.option("--until", type=click.Choice(["stored", "handled"]), default="handled", help="handled by default.")
@click.option(
    "--timeout", metavar="TIME", callback=read_timeout, help="How long to wait; as long as it takes by default."
)
@json_option
def wait(*, ident: bytes, until: str, timeout: float | None, as_json: bool) -> None:
    """Wait until the message ID, which was sent from this machine, is stored at its recipient, or handled there.

    With --timeout 0 this says where it stands. Exit code 3 when it has not got so far in time, 1 when it never will.
    """
    with connected(timeout=timeout) as client:
        receipt = client.receipt(ident)
        try:
            _wait(receipt, until, timeout)
        finally:
            _tell(receipt, as_json=as_json)


def _wait(receipt: ClientReceipt, until: str, timeout: float | None) -> None:
    try:
        (receipt.handled if until == "handled" else receipt.stored)(timeout)
    except Exception as error:
        if not isinstance(error, NotHeard):  # who does not answer is not asked again
            receipt.refresh()
        raise


def _tell(receipt: ClientReceipt, *, as_json: bool) -> None:
    if as_json:
        said = {"id": receipt.id.hex(), "address": receipt.address, "state": receipt.state}
        print_json(said | {"warning": receipt.warning, "detail": receipt.detail})
    else:
        click.echo(f"{receipt.id.hex()}  {receipt.address}  {receipt.state}")


# --- what is sent ---


def _body(text: str | None, *, json_body: bool, as_bytes: bool) -> Any:
    if as_bytes and (json_body or text not in (None, STDIN)):
        raise click.UsageError("--bytes sends standard input: it goes neither with --json-body nor with TEXT")
    if text is None or text == STDIN:
        if sys.__stdin__ is None:  # an empty message would go out
            raise click.UsageError("standard input is closed: there is no text to send")
        data = _read(sys.stdin.buffer)
        if as_bytes:
            return data
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            raise click.UsageError(f"standard input is no UTF-8 text ({error}): say --bytes") from None
        if not data:
            click.echo("warning: standard input is empty, and so is the message", err=True)
        text = text.removesuffix("\n").removesuffix("\r")
    if not json_body:
        return {"text": text}
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"the body is no JSON: {error}") from None


def _read(stream: BinaryIO) -> bytes:
    if sys.stdin.isatty():
        click.echo("Type the message; Ctrl-D on a line of its own ends it.", err=True)
    data = stream.read(MAX_BODY + 1)
    if len(data) > MAX_BODY:
        raise BodyTooLarge(f"standard input has more than {MAX_BODY} bytes, which a message carries at most")
    return data
