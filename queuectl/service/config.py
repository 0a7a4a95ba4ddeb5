"""The stored options: list, get, set, unset."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, select
from sqlalchemy.orm import Session

from queuectl.db.engine import Store
from queuectl.db.models import OptionRow
from queuectl.db.prepared import Prepared
from queuectl.domain.options import OPTION_NAMES, Options, option_field, validate_option

_STORED = Prepared(select(OptionRow.key, OptionRow.value))


@dataclass(frozen=True, slots=True)
class Option:
    """One option; its source is ``stored`` or ``default``."""

    name: str
    value: Any
    default: Any
    source: str
    updated_at: datetime | None


def ask(connection: Connection) -> Callable[[], Options]:
    """Return what gives all options as they stand now; part of a transaction that needs them.

    One that only a newer program knows is that one's.
    """
    stored = _STORED.ask(connection)

    def read() -> Options:
        known = {key: json.loads(value) for key, value in stored() if key in Options.model_fields}
        return Options.model_validate(known)

    return read


def load(connection: Connection) -> Options:
    """Return all options as they stand now; part of a transaction that needs them."""
    return ask(connection)()


def read_options(store: Store) -> Options:
    """Return all options as they stand now."""
    return store.read(load)


def list_options(store: Store) -> list[Option]:
    """Return every option, in the order of their definition."""

    def work(connection: Connection) -> list[Option]:
        with Session(connection) as session:
            stored = {row.key: row for row in session.scalars(select(OptionRow))}
            return [_to_option(name, stored) for name in OPTION_NAMES]

    return store.read(work)


def _to_option(name: str, stored: dict[str, OptionRow]) -> Option:
    field = option_field(name)
    default = Options.model_fields[field].default
    row = stored.get(field)
    if row is None:
        return Option(name, default, default, "default", None)
    return Option(name, json.loads(row.value), default, "stored", row.updated_at)


def get_option(store: Store, name: str) -> Option:
    """Return one option; ``max_retries`` is accepted for ``max-retries``. Raises NotFound."""
    field = option_field(name)
    return next(option for option in list_options(store) if option_field(option.name) == field)


def set_option(store: Store, name: str, value: object) -> Option:
    """Store a validated value; raises NotFound for the name and InvalidInput for the value."""
    field = option_field(name)
    valid = validate_option(name, value)

    def work(connection: Connection) -> None:
        with Session(connection, join_transaction_mode="rollback_only") as session:
            row = OptionRow(key=field, value=json.dumps(valid), updated_at=datetime.now(UTC))
            session.merge(row)
            session.flush()

    store.write(work)
    store.forget()
    return get_option(store, name)


def unset_option(store: Store, name: str) -> Option:
    """Return to the default; raises NotFound for an unknown name."""
    field = option_field(name)

    def work(connection: Connection) -> None:
        with Session(connection, join_transaction_mode="rollback_only") as session:
            row = session.get(OptionRow, field)
            if row is not None:
                session.delete(row)
            session.flush()

    store.write(work)
    store.forget()
    return get_option(store, name)
