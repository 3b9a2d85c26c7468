"""`zmesh completion`: the script with which a shell completes commands, options, agents and mailboxes."""

import os
from pathlib import Path
from typing import Final

import click

SHELLS: Final = ("bash", "zsh", "fish")
VARIABLE: Final = "_ZMESH_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(SHELLS), required=False)
def completion(*, shell: str | None) -> None:
    """Print what makes the shell complete zmesh's words; SHELL is the one you use by default.

    \b
    bash:  eval "$(zmesh completion bash)"            in ~/.bashrc
    zsh:   eval "$(zmesh completion zsh)"             in ~/.zshrc
    fish:  zmesh completion fish | source             in ~/.config/fish/config.fish

    Agents are completed from what the running daemon knows; completing never starts one.
    """  # noqa: D301 - the \b is click's: leave the lines as they are
    from click.shell_completion import get_completion_class  # noqa: PLC0415 - here only

    chosen = shell or Path(os.environ.get("SHELL", "")).name
    script = get_completion_class(chosen) if chosen in SHELLS else None
    if script is None:
        raise click.UsageError(f"say for which shell: {', '.join(SHELLS)}")
    root = click.get_current_context().find_root().command
    click.echo(script(root, {}, "zmesh", VARIABLE).source())
