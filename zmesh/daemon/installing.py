"""Making the daemon a service, and undoing that: what is written, whom it is handed over to, what could not be done.

A daemon that runs already is ended in the way that loses nothing, and clients wait until the service has started it.
This module must never leave a machine with less than it had: where the system's manager cannot be reached, clients go
on starting the daemon.
"""

import contextlib
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from zmesh.daemon.ending import end, nobody_starts, running
from zmesh.daemon.process import PATIENCE
from zmesh.daemon.service import Service, Standing, Systemd, check_importable, listens_within, service_of
from zmesh.daemon.service_files import WORDS
from zmesh.errors import ServiceError

LINGER: Final = "loginctl enable-linger"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of installing the service.

    Attributes:
        service: The service.
        written: False when its file said already what it is to say.
        replaced: The process id of the daemon that ran and was ended for it.
        pid: Of the daemon that the service runs; None when it does not.
        trouble: What could not be done, and why; empty when all was.
        advice: What else there is, and what a person may want to do.
    """

    service: Service
    written: bool
    replaced: int | None
    pid: int | None
    trouble: str
    advice: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Removed:
    """What came of taking the service out.

    Attributes:
        service: The service.
        file: True when its file was there.
        ended: The process id of the daemon that ended with it.
        trouble: What could not be done, and why; empty when all was.
    """

    service: Service
    file: bool
    ended: int | None
    trouble: str


def install(home: Path) -> Outcome:
    """Install the service of a home and have it run the daemon.

    Raises:
        ServiceError: Nothing could be written, or the manager refuses; or the daemon does not come up.
        DaemonError: The one that runs does not end.
    """
    service = service_of(home)
    check_importable(service.wanted().interpreter)
    written = service.write()
    standing = service.standing()
    if standing.reachable:
        return Outcome(service, written, None, None, _unreachable(service, standing), _otherwise(service))
    if standing.active and standing.enabled and not written:
        return Outcome(service, written, None, running(home), "", _advice(service))
    with nobody_starts(home) as place:
        replaced = end(home)
        service.enable()
        if not (service.begin() and listens_within(place, PATIENCE)):
            raise ServiceError(
                f"{service.file} is installed, and the daemon does not come up as a service: its log is in "
                f"{place.directory}"
            )
    return Outcome(service, written, replaced, running(home), "", _advice(service))


def uninstall(home: Path) -> Removed:
    """Take the service of a home out: the daemon it runs ends, its file is removed.

    Raises:
        ServiceError: The file cannot be removed, or is not zmesh's.
    """
    service, before = service_of(home), running(home)
    if not service.installed:
        return Removed(service, file=False, ended=None, trouble="")
    service.check_own()
    standing, trouble = service.standing(), ""
    if not standing.reachable:
        try:
            service.disable()
        except ServiceError as error:
            trouble = str(error)
    try:
        service.file.unlink(missing_ok=True)
        for link in service.links:
            link.unlink(missing_ok=True)
    except OSError as error:
        raise ServiceError(f"cannot remove {service.file}: {error.strerror}") from error
    with contextlib.suppress(ServiceError):
        service.forget()
    ended = before if before is not None and running(home) is None else None
    return Removed(service, file=True, ended=ended, trouble=trouble)


def _unreachable(service: Service, standing: Standing) -> str:
    return f"{service.kind} cannot be asked to start it: {standing.reachable}"


def _otherwise(service: Service) -> tuple[str, ...]:
    """Say what there is where the manager cannot be reached."""
    by_hand = service.by_hand.format(name=service.name, file=service.file)
    advice = [f"where {service.kind} runs for this user, `{by_hand}` takes the file up (and so does this command)"]
    if os.name == "posix":
        wanted = service.wanted()
        words = [*(f"{name}={value}" for name, value in wanted.environment.items()), wanted.interpreter, *WORDS]
        line = " ".join(shlex.quote(word) for word in words).replace("%", "\\%")
        if "=" in words[0]:
            line = f"env {line}"
        advice.append(f"with cron, `crontab -e` and this line start it when the machine starts: @reboot {line}")
    return (*advice, "without either, every program that needs the daemon starts it")


def _advice(service: Service) -> tuple[str, ...]:
    if isinstance(service, Systemd) and not service.lingers():
        return (f"it ends when you log out, and starts when you log in: `{LINGER}` has it run without you",)
    return ()
