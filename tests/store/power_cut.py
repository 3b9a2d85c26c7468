"""A disk in memory whose power can be cut: what was not synced is then kept, lost or torn, as the seed says.

SQLite runs on it through an apsw VFS. Each file has its content as the disk has it (`durable`) and what was done to it
since its last sync. At a cut, a random part of that survives, sector by sector: disks reorder. The name of a new file
is safe once the file was synced, as SQLite's own VFS does for the write-ahead log, and the store for its database; a
file that was removed may come back unless its directory was synced.
Power goes at a random call of the VFS: that call and all later ones fail, like those of a machine that is gone.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import apsw

from zmesh.peer.connection import Connection, Row, explain
from zmesh.peer.schema import CHECKPOINT_PAGES

SECTOR: Final = 512  # bytes that a disk writes whole
_NEVER: Final = 1 << 60


@dataclass
class DiskFile:
    """One file.

    Attributes:
        content: What a reader sees.
        durable: What survives a cut for certain.
        pending: Since the last sync: (offset, data) written, or (size, None) truncated.
        named: True when the directory entry is on the disk.
    """

    content: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    named: bool = False

    def write(self, offset: int, data: bytes) -> None:
        _write(self.content, offset, data)
        self.pending.append((offset, bytes(data)))

    def truncate(self, size: int) -> None:
        _truncate(self.content, size)
        self.pending.append((size, None))

    def sync(self) -> None:
        self.durable = bytes(self.content)
        self.pending.clear()
        self.named = True

    def after_cut(self, rng: random.Random) -> "DiskFile":
        """Return the file as the next boot finds it."""
        survival = rng.choice((0.0, 0.5, 0.9, 1.0))
        content = bytearray(self.durable)
        for offset, data in self.pending:
            if data is None:
                if rng.random() < survival:
                    _truncate(content, offset)
                continue
            for start in range(0, len(data), SECTOR):
                if rng.random() < survival:
                    _write(content, offset + start, data[start : start + SECTOR])
        return DiskFile(content, bytes(content), [], named=True)


class Disk:
    """All files of one machine.

    Attributes:
        calls: Calls of the VFS that change or sync something, so far.
        cut_at: The call at which the power goes.
        lost: Writes that were not synced when it went, of all cuts.
        torn_main: Cuts at which the database itself, not only its log, had writes that were not synced.
    """

    def __init__(self, seed: object) -> None:
        self.rng = random.Random(str(seed))
        self.files: dict[str, DiskFile] = {}
        self.calls = 0
        self.cut_at = _NEVER
        self.lost = self.torn_main = 0

    @property
    def dark(self) -> bool:
        return self.calls >= self.cut_at

    def touch(self) -> None:
        """Count a call; fail when there is no power any more."""
        self.calls += 1
        self.check()

    def check(self) -> None:
        if self.dark:
            raise apsw.exception_for(apsw.SQLITE_IOERR)  # as of a machine that is gone

    def cut_in(self, calls: int) -> None:
        """Let the power go after so many calls more."""
        self.cut_at = self.calls + calls

    def cut(self) -> None:
        """Cut the power now, if it is still on, and boot again."""
        self.lost += sum(len(file.pending) for file in self.files.values())
        self.torn_main += any(file.pending for name, file in self.files.items() if name.endswith(".db"))
        kept = {name: file for name, file in self.files.items() if file.named or self.rng.random() < 0.5}
        self.files = {name: file.after_cut(self.rng) for name, file in sorted(kept.items())}
        self.cut_at = _NEVER


def _write(content: bytearray, offset: int, data: bytes) -> None:
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _truncate(content: bytearray, size: int) -> None:
    del content[size:]


class PowerCutVFS(apsw.VFS):
    """The VFS of one disk; its name is the disk's."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.vfs_name = f"power-cut-{id(disk)}"
        super().__init__(self.vfs_name, base="")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> Any:  # noqa: N802 - apsw's name
        self.disk.check()
        path = name.filename() if isinstance(name, apsw.URIFilename) else (name or f"temp-{self.disk.calls}")
        flags[1] = flags[0]
        return PowerCutFile(self.disk, path, main=bool(flags[0] & apsw.SQLITE_OPEN_MAIN_DB))

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: FBT001, N802
        self.disk.touch()
        if filename not in self.disk.files:
            raise apsw.exception_for(apsw.SQLITE_IOERR_DELETE_NOENT)
        if syncdir:
            del self.disk.files[filename]
        else:
            self.disk.files[filename].truncate(0)

    def xAccess(self, pathname: str, flags: int) -> bool:  # noqa: ARG002, N802
        self.disk.check()
        return pathname in self.disk.files

    def xFullPathname(self, name: str) -> str:  # noqa: N802
        return str(Path(name).absolute())


class PowerCutFile:
    """One open file; apsw calls it instead of a file of its own."""

    def __init__(self, disk: Disk, name: str, *, main: bool) -> None:
        self._disk = disk
        self._file = disk.files.setdefault(name, DiskFile(named=main))

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        self._disk.check()
        return bytes(self._file.content[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.touch()
        self._file.write(offset, data)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        self._disk.touch()
        self._file.truncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: ARG002, N802
        self._disk.touch()
        self._file.sync()

    def xFileSize(self) -> int:  # noqa: N802
        self._disk.check()
        return len(self._file.content)

    def xClose(self) -> None:  # noqa: N802
        pass

    def xLock(self, level: int) -> None:  # noqa: N802
        pass

    def xUnlock(self, level: int) -> None:  # noqa: N802
        pass

    def xCheckReservedLock(self) -> bool:  # noqa: N802
        return False

    def xFileControl(self, op: int, ptr: int) -> bool:  # noqa: ARG002, N802
        return False

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        return 0

    def xSectorSize(self) -> int:  # noqa: N802
        return SECTOR


class ApswConnection:
    """A `Connection` of apsw on a disk whose power can be cut.

    Checkpoints come every few commits, so that cuts meet them. With `full` False it is a liar: it says FULL and works
    with NORMAL, as the proof that the tests would notice.
    """

    def __init__(self, path: Path, vfs: PowerCutVFS, *, full: bool = True) -> None:
        self._path, self._full = path, full
        try:
            self._connection = apsw.Connection(str(path), vfs=vfs.vfs_name, statementcachesize=512)
        except apsw.Error as error:
            raise explain(getattr(error, "result", 1), str(error), path) from error

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    @property
    def total_changes(self) -> int:
        return self._connection.total_changes()

    def execute(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        sql = sql.replace(f"wal_autocheckpoint={CHECKPOINT_PAGES}", "wal_autocheckpoint=20")
        if not self._full:
            sql = sql.replace("synchronous=FULL", "synchronous=NORMAL")
        try:
            rows = self._connection.execute(sql, tuple(params)).fetchall()
        except apsw.Error as error:
            raise explain(getattr(error, "result", 1), str(error), self._path) from error
        return [(2,)] if not self._full and sql == "PRAGMA synchronous" else rows

    def close(self) -> None:
        try:
            self._connection.close(force=True)
        except apsw.Error as error:
            raise explain(getattr(error, "result", 1), str(error), self._path) from error


class Machine:
    """A disk and what connects to it: `connect` is what `SqliteStore` takes."""

    def __init__(self, seed: object, *, full: bool = True) -> None:
        self.disk = Disk(seed)
        self._vfs = PowerCutVFS(self.disk)
        self._full = full

    def connect(self, path: Path) -> Connection:
        return ApswConnection(path, self._vfs, full=self._full)

    def close(self) -> None:
        self._vfs.unregister()
