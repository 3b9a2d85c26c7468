"""The daemon as a service of this system: started when the user logs in, and again when it fails.

systemd's user instance, launchd, or Windows' task scheduler; `service_files` has what they read. A service and clients
that start the daemon by themselves get on: clients ask the service first, and a service that finds a daemon running is
content. This module must never overwrite a file that is not zmesh's, nor need more rights than the user has.
"""

import getpass
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import ClassVar, Final

from zmesh.daemon import service_files
from zmesh.daemon.place import Place, place_of
from zmesh.daemon.process import ERRORS, listens
from zmesh.daemon.service_files import MARK, Wanted
from zmesh.errors import ServiceError
from zmesh.peer.home import is_usual

TOOL_PATIENCE: Final = 60.0  # seconds for one call of the system's tool: stopping waits for the daemon to drain
CLIENT_PATIENCE: Final = 10.0  # seconds that a client waits for the service before it starts the daemon itself
LOOK_EVERY: Final = 0.02
MAX_FILE: Final = 64 * 1024  # bytes of a service file: ours have two thousand
MAX_SAID: Final = 300  # characters of what a tool says that are shown


@dataclass(frozen=True, slots=True)
class Standing:
    """How the service of a home stands, as its manager says it.

    Attributes:
        reachable: Why the manager cannot be asked; empty when it can.
        enabled: True when it is started at login; None when nobody knows.
        active: True when the daemon runs as the service; None when nobody knows.
    """

    reachable: str = ""
    enabled: bool | None = None
    active: bool | None = None


class Service:
    """The service of one home, under one manager.

    Attributes:
        name: What it is called there.
        file: What the manager reads.
    """

    kind: ClassVar[str]
    tool: ClassVar[str]
    by_hand: ClassVar[str]
    """What to type when the manager can be reached some day."""

    def __init__(self, home: Path) -> None:
        """Describe it; nothing is made."""
        self.home = home
        mark = "" if is_usual(home) else "-" + blake2b(os.fsencode(home), digest_size=4).hexdigest()
        self.name = f"zmesh{mark}"
        self.file = self._file()

    def _file(self) -> Path:
        raise NotImplementedError

    def text(self) -> bytes:
        """Return what the file is to say."""
        raise NotImplementedError

    def standing(self) -> Standing:
        """Ask the manager."""
        raise NotImplementedError

    def enable(self) -> None:
        """Have the manager read the file, and start the daemon at every login from now on."""
        raise NotImplementedError

    def begin(self) -> bool:
        """Have the manager start the daemon; False when it does not."""
        raise NotImplementedError

    def disable(self) -> None:
        """Have the manager end the daemon and forget it."""
        raise NotImplementedError

    def wanted(self) -> Wanted:
        """Return what the service is to run."""
        place = place_of(self.home)
        short = place.socket_path is not None and place.socket_path.parent != place.directory
        return Wanted(
            name=self.name,
            interpreter=_interpreter(),
            home="" if is_usual(self.home) else str(self.home),
            temporary=os.environ.get("TMPDIR", "") if short else "",  # where clients look for its socket
            errors=str(place.directory / ERRORS),
            user=_windows_user(),
        )

    @property
    def installed(self) -> bool:
        """True when its file is there, or the name of one."""
        return os.path.lexists(self.file)

    def write(self) -> bool:
        """Write the file; False when it says already what it is to say.

        Raises:
            ServiceError: It cannot be written, or is not zmesh's.
        """
        text = self.text()
        if self.installed and self.check_own() == text:
            return False
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            aside = self.file.with_name(f".{self.file.name}.new")
            aside.write_bytes(text)
            aside.replace(self.file)
        except OSError as error:
            raise ServiceError(f"cannot write {self.file}: {error.strerror}") from error
        return True

    def check_own(self) -> bytes:
        """Return what the file says.

        Raises:
            ServiceError: It cannot be read, or is not zmesh's.
        """
        try:
            with self.file.open("rb") as file:
                said = file.read(MAX_FILE)
        except OSError as error:
            raise ServiceError(f"cannot read {self.file}: {error.strerror}") from error
        if MARK.encode() not in said.replace(b"\0", b""):  # UTF-16, perhaps
            raise ServiceError(f"{self.file} is not zmesh's: see what it is, and move it away")
        return said

    @property
    def links(self) -> tuple[Path, ...]:
        """What enabling has made besides, to be removed where the manager cannot be asked to."""
        return ()

    def forget(self) -> None:
        """Tell the manager that the file is gone."""

    def call(self, *words: str) -> str:
        """Call the manager's tool, and return what it says.

        Raises:
            ServiceError: It refuses, or is not there.
        """
        return called([self.tool, *words])


class Systemd(Service):
    """A unit of the user's systemd."""

    kind, tool = "systemd", "systemctl"
    by_hand = "systemctl --user enable --now {name}"

    def _file(self) -> Path:
        said = os.environ.get("XDG_CONFIG_HOME", "")
        configuration = Path(said) if said.startswith("/") else Path.home() / ".config"
        return configuration / "systemd/user" / f"{self.name}.service"

    def text(self) -> bytes:
        """Return what the file is to say."""
        return service_files.systemd_unit(self.wanted())

    def standing(self) -> Standing:
        """Ask the manager."""
        try:
            said = self.call("--user", "show", f"{self.name}.service", "--property=UnitFileState,ActiveState")
        except ServiceError as error:
            return Standing(str(error))
        return Standing(
            enabled="UnitFileState=enabled" in said,
            active="ActiveState=active" in said,
        )

    def enable(self) -> None:
        """Have it read the file, and start the daemon at every login."""
        self.call("--user", "daemon-reload")
        self.call("--user", "enable", f"{self.name}.service")

    def begin(self) -> bool:
        """Have it start the daemon; False when it does not."""
        start = ("--user", "start", f"{self.name}.service")
        if _succeeds(self, *start):
            return True
        _succeeds(self, "--user", "reset-failed", f"{self.name}.service")  # what clients ask for counts as attempts too
        return _succeeds(self, *start)

    def disable(self) -> None:
        """Have it end the daemon and forget it."""
        self.call("--user", "disable", "--now", f"{self.name}.service")

    @property
    def links(self) -> tuple[Path, ...]:
        """What enabling has made besides."""
        return (self.file.parent / "default.target.wants" / self.file.name,)

    def forget(self) -> None:
        """Tell it that the file is gone."""
        self.call("--user", "daemon-reload")

    def lingers(self) -> bool:
        """Say whether the user's systemd goes on after the user has logged out."""
        try:
            return called(["loginctl", "show-user", str(os.getuid()), "--property=Linger"]).strip() == "Linger=yes"
        except ServiceError:
            return False


class Launchd(Service):
    """An agent of launchd in the user's graphical session."""

    kind, tool = "launchd", "launchctl"
    by_hand = "launchctl bootstrap gui/$(id -u) ~/Library/LaunchAgents/{name}.plist"

    def _file(self) -> Path:
        return Path.home() / "Library/LaunchAgents" / f"{self.name}.plist"

    def text(self) -> bytes:
        """Return what the file is to say."""
        return service_files.launchd_plist(self.wanted())

    @property
    def _domain(self) -> str:
        return f"gui/{os.getuid()}"

    def standing(self) -> Standing:
        """Ask the manager."""
        try:
            self.call("print", self._domain)
        except ServiceError as error:
            return Standing(str(error))
        try:
            said = self.call("print", f"{self._domain}/{self.name}")
        except ServiceError:
            return Standing(enabled=False, active=False)
        return Standing(enabled=True, active="state = running" in said)

    def enable(self) -> None:
        """Have it read the file, and start the daemon at every login."""
        _succeeds(self, "bootout", f"{self._domain}/{self.name}")  # what it has read, it does not read again
        self.call("enable", f"{self._domain}/{self.name}")
        self.call("bootstrap", self._domain, str(self.file))  # which starts it, for RunAtLoad

    def begin(self) -> bool:
        """Have it start the daemon; False when it does not."""
        return _succeeds(self, "kickstart", f"{self._domain}/{self.name}")

    def disable(self) -> None:
        """Have it end the daemon and forget it."""
        if self.standing().enabled:
            self.call("bootout", f"{self._domain}/{self.name}")


class TaskScheduler(Service):
    """A task of Windows' scheduler, whose names all users share."""

    kind, tool = "task scheduler", "schtasks"
    by_hand = 'schtasks /Create /F /TN {name} /XML "{file}"'

    def _file(self) -> Path:
        self.name = "zmesh-" + blake2b(f"{_windows_user()}\0{self.home}".encode(), digest_size=4).hexdigest()
        return self.home / "daemon" / f"{self.name}.xml"

    def text(self) -> bytes:
        """Return what the file is to say."""
        return service_files.task_xml(self.wanted())

    def standing(self) -> Standing:
        """Ask the manager."""
        if shutil.which(self.tool) is None:
            return Standing(f"there is no {self.tool} here")
        try:
            said = self.call("/Query", "/TN", self.name, "/FO", "CSV", "/NH")
        except ServiceError:
            return Standing(enabled=False, active=False)
        return Standing(enabled=True, active=None if said else False)  # its words are in the user's language

    def enable(self) -> None:
        """Have it read the file, and start the daemon at every login."""
        self.call("/Create", "/F", "/TN", self.name, "/XML", str(self.file))

    def begin(self) -> bool:
        """Have it start the daemon; False when it does not."""
        return _succeeds(self, "/Run", "/TN", self.name)

    def disable(self) -> None:
        """Have it end the daemon and forget it."""
        if self.standing().enabled:
            self.call("/Delete", "/F", "/TN", self.name)


def service_of(home: Path) -> Service:
    """Return the service of a home on this system."""
    if sys.platform == "win32":
        return TaskScheduler(home)
    return Launchd(home) if sys.platform == "darwin" else Systemd(home)


def begin(home: Path, place: Place) -> bool:
    """Have the service of a home start its daemon, if there is one; return whether it listens.

    For clients, which start the daemon by themselves if this returns False.
    """
    service = service_of(home)
    return service.installed and service.begin() and listens_within(place, CLIENT_PATIENCE)


def listens_within(place: Place, seconds: float) -> bool:
    """Wait until a daemon listens; False when none does in that time."""
    deadline = time.monotonic() + seconds
    while not listens(place):
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_EVERY)
    return True


def called(command: Sequence[str]) -> str:
    """Run a program of the system, and return what it prints.

    Raises:
        ServiceError: It is not there, fails, or does not end.
    """
    try:
        ended = subprocess.run(  # noqa: S603 - the system's own tool
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
            timeout=TOOL_PATIENCE,
        )  # fmt: skip
    except OSError:
        raise ServiceError(f"there is no {command[0]} here") from None
    except subprocess.TimeoutExpired:
        raise ServiceError(f"`{' '.join(command)}` does not end within {TOOL_PATIENCE:g} s") from None
    if ended.returncode:
        said = " ".join((ended.stderr or ended.stdout).split())[:MAX_SAID]
        raise ServiceError(f"`{' '.join(command)}` says: {said or f'exit code {ended.returncode}'}")
    return ended.stdout


def check_importable(interpreter: str) -> None:
    """See to it that a service would find zmesh: it is started elsewhere, and without `PYTHONPATH`.

    Raises:
        ServiceError: It would not.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    try:
        subprocess.run(  # noqa: S603 - our own interpreter
            [interpreter, "-c", "import zmesh.daemon"], cwd=Path(interpreter).anchor, env=environment, check=True,
            capture_output=True, timeout=TOOL_PATIENCE,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        raise ServiceError(
            f"{interpreter} finds zmesh only from here: install it there (pip, pipx or uv), then install the service"
        ) from None


def _succeeds(service: Service, *words: str) -> bool:
    try:
        service.call(*words)
    except ServiceError:
        return False
    return True


def _interpreter() -> str:
    """Return the Python that runs this; on Windows the one that opens no window."""
    own = Path(sys.executable).absolute()
    silent = own.with_name("pythonw.exe")
    return str(silent if os.name == "nt" and silent.exists() else own)


def _windows_user() -> str:
    domain, name = os.environ.get("USERDOMAIN", ""), os.environ.get("USERNAME", "")
    return (f"{domain}\\{name}" if domain else name or getpass.getuser()) if os.name == "nt" else name
