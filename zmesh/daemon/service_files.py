"""What the three service managers read: a systemd unit, a launchd property list, a task for Windows' scheduler.

Pure: from what is wanted follows the file. Each format has its own ways to mean something else than what is written;
this module must never let a path through that would be read as another one.
"""

import re
from dataclasses import dataclass
from subprocess import list2cmdline
from typing import Final
from unicodedata import category

from zmesh.errors import ServiceError

WORDS: Final = ("-m", "zmesh.daemon", "--service")
"""What the interpreter is told."""
RESTARTS: Final = 5
"""How often a daemon that fails is started again: what five attempts do not mend, a person must. (launchd has no such
bound: it waits `THROTTLE` seconds between two attempts, for ever.)"""
RESTART_AFTER: Final = 2  # seconds; systemd's default of 0.1 uses up the attempts within one
RESTARTS_WITHIN: Final = 300  # seconds
THROTTLE: Final = 10  # seconds, as launchd has it by default
STOP: Final = 30  # seconds to drain, before it is killed; it needs up to ten, twice
UMASK: Final = 0o077
MARK: Final = "zmesh.daemon"  # stands in each of the files, and in no other's

_UNIT: Final = """\
# Written by `zmesh service install`, which overwrites it; `systemctl --user edit {name}` is for changes of your own.
[Unit]
Description=zmesh, this machine's peer
StartLimitIntervalSec={within}
StartLimitBurst={restarts}

[Service]
Type=exec
ExecStart={command}
{environment}# It ends with 0 when it is told to end, and when another one runs already: then it stays down.
Restart=on-failure
RestartSec={after}
TimeoutStopSec={stop}
UMask={umask:04o}
# Only what needs no namespaces: users' units cannot have those everywhere. No PrivateTmp: its socket may lie in /tmp.
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native

[Install]
WantedBy=default.target
"""
_AWKWARD: Final = frozenset("\"'\\$")  # systemd takes no such path for an executable, or replaces a part of it
_REPLACED: Final = re.compile(r"%[^%]+%|\$\(")  # by the task scheduler; it has no way to say that a text is meant

_TASK: Final = """\
<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Description>zmesh, this machine's peer</Description>
  </RegistrationInfo>
  <Triggers>
    <LogonTrigger>
      <Enabled>true</Enabled>
      <UserId>{user}</UserId>
    </LogonTrigger>
  </Triggers>
  <Principals>
    <Principal id="Author">
      <UserId>{user}</UserId>
      <LogonType>InteractiveToken</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <AllowStartOnDemand>true</AllowStartOnDemand>
    <Enabled>true</Enabled>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <RestartOnFailure>
      <Interval>PT1M</Interval>
      <Count>{restarts}</Count>
    </RestartOnFailure>
  </Settings>
  <Actions Context="Author">
    <Exec>
      <Command>{command}</Command>
      <Arguments>{arguments}</Arguments>
    </Exec>
  </Actions>
</Task>
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a service file is to say.

    Attributes:
        name: Of the unit, the agent or the task: letters, digits, '-' and '.'.
        interpreter: The absolute path of the Python that has zmesh.
        home: Of the daemon's state; empty where it is the one that a process finds without being told.
        temporary: The directory for temporary files; empty where it does not matter.
        errors: Where launchd writes what the daemon says before its log is open.
        user: Whose task it is, as Windows writes that: domain, backslash, name.
    """

    name: str
    interpreter: str
    home: str = ""
    temporary: str = ""
    errors: str = ""
    user: str = ""

    def __post_init__(self) -> None:
        """Check what no format can carry.

        Raises:
            ServiceError: A path has a control character, or bytes that are no text.
        """
        for text in (self.name, self.interpreter, self.home, self.temporary, self.errors, self.user):
            if any(category(each) in ("Cc", "Cs") or each in "\ufffe\uffff" for each in text):
                raise ServiceError(
                    f"{text!a} has characters that no service file can carry: rename it, or use another place"
                )

    @property
    def environment(self) -> dict[str, str]:
        """The variables that the daemon is given."""
        said = {"ZMESH_HOME": self.home, "TMPDIR": self.temporary}
        return {name: value for name, value in said.items() if value}


def systemd_unit(wanted: Wanted) -> bytes:
    """Return the unit of a systemd user instance."""
    words = [wanted.interpreter, *WORDS]
    if _AWKWARD & set(wanted.interpreter):
        words = ["/bin/sh", "-c", 'exec "$0" "$@"', *words]
    environment = (f"Environment={_quoted(f'{name}={value}')}\n" for name, value in wanted.environment.items())
    return _UNIT.format(
        name=wanted.name,
        command=" ".join(_quoted(word).replace("$", "$$") for word in words),
        environment="".join(environment),
        restarts=RESTARTS,
        within=RESTARTS_WITHIN,
        after=RESTART_AFTER,
        stop=STOP,
        umask=UMASK,
    ).encode()


def _quoted(word: str) -> str:
    """Return a word as systemd reads it back: its quotes, its specifiers."""
    plain = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return plain if re.fullmatch(r"[\w./@:%+,=-]+", word, re.ASCII) else f'"{plain}"'


def launchd_plist(wanted: Wanted) -> bytes:
    """Return the property list of a launchd agent."""
    import plistlib  # noqa: PLC0415 - a client that starts the daemon needs none of it

    said = {
        "Label": wanted.name,
        "ProgramArguments": [wanted.interpreter, *WORDS],
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},  # as Restart=on-failure: told to end, it stays down
        "ThrottleInterval": THROTTLE,
        "ExitTimeOut": STOP,
        "Umask": UMASK,
    }
    if wanted.environment:
        said["EnvironmentVariables"] = wanted.environment
    if wanted.errors:
        said["StandardErrorPath"] = wanted.errors
    return plistlib.dumps(said)


def task_xml(wanted: Wanted) -> bytes:
    """Return the task, as `schtasks /Create /XML` takes it.

    Raises:
        ServiceError: The scheduler would replace a part of a path.
    """
    words = [*WORDS, "--home", wanted.home] if wanted.home else list(WORDS)
    arguments = list2cmdline(words)
    for text in (wanted.interpreter, arguments):
        if _REPLACED.search(text):
            raise ServiceError(
                f"the task scheduler replaces what is between '%' and '%', or after '$(', in {text}: use another place"
            )
    text = _TASK.format(
        user=_escaped(wanted.user),
        command=_escaped(wanted.interpreter),
        arguments=_escaped(arguments),
        restarts=RESTARTS,
    )
    return text.replace("\n", "\r\n").encode("utf-16")  # with its mark of the byte order, which schtasks wants


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
