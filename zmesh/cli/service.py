"""`zmesh service`: have this system start the daemon when the user logs in, and again when it fails.

This command must never say that something runs which it has not seen running.
"""

import json

import click

from zmesh.daemon import installing
from zmesh.daemon.ending import running
from zmesh.daemon.service import service_of
from zmesh.errors import ServiceError
from zmesh.peer.home import home_directory, home_path


@click.group()
def service() -> None:
    """Have this system start the daemon at login, and again when it fails.

    Without this every program that needs the daemon starts it. Systemd's user instance, launchd, or the task scheduler.
    """


@service.command()
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def install(*, as_json: bool) -> None:
    """Install the service, and have it run the daemon from now on.

    One that runs already is ended for it; programs that are connected to it go on. Exit code 1 when the file was
    written and the system's manager cannot be reached.
    """
    came = installing.install(home_directory(None))
    name, file = came.service.name, str(came.service.file)
    if as_json:
        said = {"kind": came.service.kind, "name": name, "file": file, "written": came.written, "pid": came.pid}
        click.echo(json.dumps(said | {"replaced": came.replaced, "trouble": came.trouble, "advice": came.advice}))
    else:
        click.echo(f"{'written' if came.written else 'unchanged'}: {file}")
        if not came.trouble:
            instead = f", in place of process {came.replaced}" if came.replaced else ""
            click.echo(f"the daemon runs as {name} of {came.service.kind}, process {came.pid}{instead}")
        for line in came.advice:
            click.echo(f"  -> {line}", err=bool(came.trouble))
    if came.trouble:
        raise ServiceError(came.trouble)


@service.command()
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def uninstall(*, as_json: bool) -> None:
    """Take the service out: the daemon that it runs ends, its file is removed. Mail and keys stay."""
    gone = installing.uninstall(home_path())
    if as_json:
        said = {"kind": gone.service.kind, "name": gone.service.name, "file": str(gone.service.file)}
        click.echo(json.dumps(said | {"removed": gone.file, "ended": gone.ended, "trouble": gone.trouble}))
    elif not gone.file:
        click.echo(f"no service is installed: there is no {gone.service.file}")
    else:
        click.echo(f"removed: {gone.service.file}")
        if gone.ended:
            click.echo(f"the daemon, process {gone.ended}, has ended; the next program that needs it starts it")
    if gone.trouble:
        raise ServiceError(gone.trouble)


@service.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def status(*, as_json: bool) -> None:
    """Show whether the service is installed, and whether it runs the daemon.

    Exit code 0 when it is installed and started at login, as far as can be known, 1 otherwise.
    """
    home = home_path()
    unit = service_of(home)
    standing, pid = unit.standing(), running(home)
    current = unit.installed and unit.check_own() == unit.text()
    if as_json:
        said = {"kind": unit.kind, "name": unit.name, "file": str(unit.file), "installed": unit.installed}
        more = {"current": current, "enabled": standing.enabled, "active": standing.active}
        click.echo(json.dumps(said | more | {"pid": pid, "trouble": standing.reachable}))
    else:
        known = {True: "yes", False: "no", None: "not known"}
        old = "" if current else ", and says other than it should: zmesh service install"
        click.echo(f"service    {unit.name} of {unit.kind}")
        click.echo(f"file       {unit.file}{old if unit.installed else ', which is not there: zmesh service install'}")
        click.echo(f"at login   {known[standing.enabled]}")
        click.echo(f"runs it    {known[standing.active]}")
        click.echo(f"daemon     {'does not run' if pid is None else f'process {pid}'}")
        if standing.reachable:
            click.echo(f"{unit.kind} cannot be asked: {standing.reachable}", err=True)
    if not unit.installed or not standing.enabled:
        click.get_current_context().exit(1)
