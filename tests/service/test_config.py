"""The stored options: list, get, set, unset."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from queuectl.db.engine import Store
from queuectl.domain.options import OPTION_NAMES
from queuectl.errors import InvalidInput, NotFound
from queuectl.service import config


def test_every_option_is_listed_with_its_default(store: Store) -> None:
    options = config.list_options(store)

    assert tuple(option.name for option in options) == OPTION_NAMES
    assert all(option.value == option.default for option in options)
    assert {(option.source, option.updated_at) for option in options} == {("default", None)}


def test_a_value_that_was_set_is_stored_and_told_from_the_default(store: Store) -> None:
    before = datetime.now(UTC)

    returned = config.set_option(store, "max_retries", "7")

    assert (returned.name, returned.value, returned.default) == ("max-retries", 7, 3)
    assert returned.source == "stored"
    assert returned.updated_at is not None
    assert before <= returned.updated_at <= datetime.now(UTC)
    assert config.get_option(store, "max-retries") == returned
    assert config.read_options(store).max_retries == 7


def test_a_value_can_be_set_again(store: Store) -> None:
    config.set_option(store, "lease", "1m")

    config.set_option(store, "lease", "2m")

    assert config.get_option(store, "lease").value == 120.0


def test_the_value_of_a_default_is_stored_too(store: Store) -> None:
    assert config.set_option(store, "max-retries", 3).source == "stored"


def test_no_timeout_can_be_stored(store: Store) -> None:
    config.set_option(store, "timeout", "9s")

    assert config.set_option(store, "timeout", "none").value is None
    assert config.read_options(store).timeout is None


def test_an_option_that_is_unset_has_its_default(store: Store) -> None:
    config.set_option(store, "output-limit", "1MiB")

    returned = config.unset_option(store, "output_limit")

    assert (returned.value, returned.source) == (10 * 1024 * 1024, "default")
    assert config.unset_option(store, "output-limit") == returned


def test_an_unknown_option_is_refused_everywhere(store: Store) -> None:
    with pytest.raises(NotFound, match="'retries'"):
        config.get_option(store, "retries")
    with pytest.raises(NotFound, match="'retries'"):
        config.set_option(store, "retries", "1")
    with pytest.raises(NotFound, match="'retries'"):
        config.unset_option(store, "retries")


def test_a_refused_value_changes_nothing(store: Store) -> None:
    config.set_option(store, "lease", "1m")
    before = store.data_version()

    with pytest.raises(InvalidInput, match="lease"):
        config.set_option(store, "lease", "1")

    assert config.get_option(store, "lease").value == 60.0
    assert store.data_version() == before
