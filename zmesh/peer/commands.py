"""What each op does to the tables, as SQL: one temporary view per op, with a trigger that does what is inserted.

Each step of SQLite gives up the interpreter's lock, and taking it back from a busy event loop can cost milliseconds.
So a run of ops of one kind must be one statement, and a multi-row INSERT into such a view is: the trigger runs for each
row, in order. Rows whose first column is -1 are padding and do nothing. Views and triggers are temporary: they belong
to the program, not to the file, and need no migration.
"""

from dataclasses import dataclass
from typing import Final

from zmesh.peer.connection import Connection
from zmesh.protocol.states import SENDER_LIVE, Received, Sent

NO_DEADLINE: Final = -1e300
"""Stands for no deadline: sqlite3 takes ten times as long to bind None as to bind a number."""
PADDING: Final = -1
"""Stands in rows that do nothing; no row, number or time is negative."""
LIVE: Final = ", ".join(str(int(state)) for state in sorted(SENDER_LIVE))
"""Outgoing messages in these states keep their body."""
FINAL: Final = ", ".join(str(int(state)) for state in (Sent.HANDLED, Sent.EXPIRED, Sent.REFUSED))
HALT_KEY: Final = "halt:"
"""How the keys of halts begin in the meta table; the store's id follows, in hexadecimal digits."""
EMPTIED: Final = ", ".join(str(int(state)) for state in (Received.HANDLED, Received.EXPIRED))


@dataclass(frozen=True, slots=True)
class CommandView:
    """A view that takes ops.

    Attributes:
        name: Of the view.
        columns: Of the view; the first is never -1 in an op.
        program: Statements of the trigger.
    """

    name: str
    columns: tuple[str, ...]
    program: str

    def install(self, connection: Connection) -> None:
        """Make the view and its trigger, for as long as the connection lives."""
        columns = ", ".join(f"NULL AS {column}" for column in self.columns)
        connection.execute(f"CREATE TEMP VIEW do_{self.name} AS SELECT {columns}")
        connection.execute(
            f"CREATE TEMP TRIGGER on_{self.name} INSTEAD OF INSERT ON do_{self.name} "
            f"WHEN NEW.{self.columns[0]} IS NOT {PADDING} BEGIN {self.program} END"
        )

    def statement(self, rows: int) -> str:
        """Return the INSERT of so many rows."""
        return f"INSERT INTO do_{self.name} {_values(len(self.columns), rows)}"


@dataclass(frozen=True, slots=True)
class PutCommand:
    """New messages of one direction: ten columns for the narrow table, three for that of the bodies.

    These two are plain INSERTs: a view costs a third more, because SQLite copies the rows of a statement with triggers.

    Attributes:
        table: The narrow table.
        bodies: The table of envelopes and bodies.
        unique: Columns by which a message is known; one that is there already is ignored.
        values: What becomes of the ten columns.
    """

    table: str
    bodies: str
    unique: str
    values: str

    @property
    def keys(self) -> int:
        """How many columns a message is known by; they follow the row."""
        return len(self.unique.split(","))

    @property
    def known(self) -> str:
        """The question for the state of a message that is there already."""
        where = " AND ".join(f"{column.strip()} = ?" for column in self.unique.split(","))
        return f"SELECT state FROM {self.table} WHERE {where}"  # noqa: S608 - one of our own two

    def statement(self, rows: int) -> str:
        """Return the INSERT of so many rows into the narrow table."""
        return (
            f"INSERT INTO {self.table} SELECT {self.values.format(none=NO_DEADLINE)} "  # noqa: S608 - only our own names
            f"FROM ({_values(10, rows)}) WHERE column1 <> {PADDING} ON CONFLICT ({self.unique}) DO NOTHING"
        )

    def body_statement(self, rows: int) -> str:
        """Return the INSERT of so many rows into the table of bodies."""
        return f"INSERT INTO {self.bodies} SELECT * FROM ({_values(3, rows)}) WHERE column1 <> {PADDING}"  # noqa: S608


def _values(columns: int, rows: int) -> str:
    one = f"({', '.join('?' * columns)})"
    return f"VALUES {', '.join([one] * rows)}"


def _replace(table: str, *columns: str) -> CommandView:
    """Return the view that replaces whole rows of a table."""
    values = ", ".join(f"NEW.{column}" for column in columns)
    program = f"REPLACE INTO {table} ({', '.join(columns)}) VALUES ({values});"  # noqa: S608
    return CommandView(table, columns, program)


# fmt: off
PUT_OUT: Final = PutCommand(
    "outbox", "outbody", "id",
    "column1, column2, column3, column4, column5, column6, column7, column8, nullif(column9, {none}), column10, ''",
)
MOVE_OUT: Final = CommandView(
    "move_out",
    ("row", "dest", "epoch", "number", "state"),
    f"""UPDATE outbox SET dest = NEW.dest, epoch = NEW.epoch, number = NEW.number, state = NEW.state
            WHERE row = NEW.row;
        DELETE FROM outbody WHERE row = NEW.row AND NEW.state NOT IN ({LIVE});""",  # noqa: S608
)
END_OUT: Final = CommandView(
    "end_out",
    ("first", "last", "state", "detail"),
    f"""UPDATE outbox SET state = NEW.state, detail = NEW.detail WHERE row BETWEEN NEW.first AND NEW.last;
        DELETE FROM outbody WHERE row BETWEEN NEW.first AND NEW.last AND NEW.state NOT IN ({LIVE});""",  # noqa: S608
)
FATE_OUT: Final = CommandView(
    "fate_out",
    ("id", "dest", "state", "detail"),
    f"""DELETE FROM outbody WHERE row = (SELECT row FROM outbox WHERE id = NEW.id AND dest = NEW.dest
            AND state IN ({LIVE}));
        UPDATE outbox SET state = NEW.state, detail = NEW.detail
            WHERE id = NEW.id AND dest = NEW.dest AND state NOT IN ({FINAL});""",  # noqa: S608
)
LOSE_OUT: Final = CommandView(
    "lose_out",
    ("dest", "epoch", "klass", "first", "last"),
    f"""UPDATE outbox SET state = {int(Sent.LOST)} WHERE dest = NEW.dest AND epoch = NEW.epoch AND klass = NEW.klass
            AND number BETWEEN NEW.first AND NEW.last AND state = {int(Sent.STORED)};""",  # noqa: S608
)
LOST: Final = f"""SELECT id FROM outbox WHERE dest = ? AND epoch = ? AND klass = ? AND number BETWEEN ? AND ?
    AND state = {int(Sent.STORED)} ORDER BY row"""  # noqa: S608
"""The question for what a `LOSE_OUT` will mark."""
PUT_IN: Final = PutCommand(
    "inbox", "inbody", "id, device",
    f"column1, column2, column3, column4, column5, column6, {int(Received.STORED)}, column7, column8, "
    "nullif(column9, {none}), column10",
)
SET_IN: Final = CommandView(
    "set_in",
    ("row", "state", "attempts", "due"),
    f"""UPDATE inbox SET state = NEW.state, attempts = NEW.attempts, due = NEW.due WHERE row = NEW.row;
        DELETE FROM inbody WHERE row = NEW.row AND NEW.state IN ({EMPTIED});""",  # noqa: S608
)
OUT_STREAM: Final = _replace("out_stream", "dest", "klass", "epoch", "next_number", "mark", "floor", "floor_id")
IN_STREAM: Final = _replace("in_stream", "source", "klass", "epoch", "cursor", "cursor_id", "confirmed")
PUT_ENDING: Final = _replace("ending", "source", "klass", "number", "code", "text")
DROP_ENDINGS: Final = CommandView(
    "drop_endings",
    ("source", "klass", "upto"),
    "DELETE FROM ending WHERE source = NEW.source AND klass = NEW.klass AND number <= NEW.upto;",
)
PUT_OUTCOME: Final = _replace("outcome", "dest", "number", "id", "code", "text")
DROP_OUTCOMES: Final = CommandView(
    "drop_outcomes",
    ("dest", "upto"),
    "DELETE FROM outcome WHERE dest = NEW.dest AND number <= NEW.upto;",
)
PUT_MAILBOX: Final = _replace("mailbox", "name", "role", "capabilities", "project", "seen")
MERGE_MAILBOX: Final = CommandView(
    "merge_mailbox",
    ("name", "into_name"),
    """UPDATE inbox SET mailbox = NEW.into_name WHERE mailbox = NEW.name;
        DELETE FROM mailbox WHERE name = NEW.name;""",
)
DROP_MAILBOX: Final = CommandView("drop_mailbox", ("name",), "DELETE FROM mailbox WHERE name = NEW.name;")
MOVE_IN: Final = CommandView(
    "move_in", ("row", "into_name"), "UPDATE inbox SET mailbox = NEW.into_name WHERE row = NEW.row;"
)
REVIVE_IN: Final = CommandView(
    "revive_in",
    ("row",),
    f"""UPDATE inbox SET state = {int(Received.STORED)}, attempts = 0, due = 0, deadline = NULL
        WHERE row = NEW.row AND state = {int(Received.DEAD)}
            AND EXISTS (SELECT 1 FROM inbody WHERE row = NEW.row);""",  # noqa: S608 - a purge leaves the row alone
)
PUT_PEER: Final = _replace("peer", "store", "name", "device", "endpoints", "roster", "agents", "last_seen")
DROP_PEER: Final = CommandView(
    "drop_peer",
    ("store",),
    """DELETE FROM peer WHERE store = NEW.store;
        DELETE FROM out_stream WHERE dest = NEW.store;
        DELETE FROM in_stream WHERE source = NEW.store;
        DELETE FROM ending WHERE source = NEW.store;
        DELETE FROM outcome WHERE dest = NEW.store;""",
)
PUT_META: Final = _replace("meta", "key", "value")
DROP_META: Final = CommandView("drop_meta", ("key",), "DELETE FROM meta WHERE key = NEW.key;")
PUT_AUDIT: Final = CommandView(
    "put_audit",
    ("kind", "at", "text"),
    "INSERT INTO audit (at, kind, text) VALUES (NEW.at, NEW.kind, NEW.text);",
)
# fmt: on

COMMANDS: Final = (
    MOVE_OUT, END_OUT, FATE_OUT, LOSE_OUT, SET_IN, OUT_STREAM, IN_STREAM, PUT_ENDING, DROP_ENDINGS,
    PUT_OUTCOME, DROP_OUTCOMES, PUT_MAILBOX, MERGE_MAILBOX, DROP_MAILBOX, MOVE_IN, REVIVE_IN, PUT_PEER, DROP_PEER,
    PUT_META, DROP_META, PUT_AUDIT,
)  # fmt: skip


def install_commands(connection: Connection) -> None:
    """Make all views; once per connection, after the tables are there.

    Raises:
        StoreError: The database refused.
    """
    for command in COMMANDS:
        command.install(connection)
