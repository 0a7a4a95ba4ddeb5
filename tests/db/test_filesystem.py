"""Kinds of file systems, and the journal mode that a new store gets on each."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import psutil
import pytest

from queuectl.db import filesystem, inspection, schema, sqlite
from queuectl.settings import StoreLocation

SOUND = sqlite.library_is_sound()


@pytest.mark.parametrize(
    "kind", ["nfs", "nfs4", "NFS4", "cifs", "smb3", "9p", "fuse", "fuse.sshfs", "virtiofs", "ceph"]
)
def test_what_may_be_shared_over_a_network_is_remote(kind: str) -> None:
    assert filesystem.is_remote(kind)
    assert sqlite.journal_mode(kind) == "delete"


@pytest.mark.parametrize(
    "kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "apfs", "fuseblk", "", None]
)
def test_disks_and_memory_are_local(kind: str | None) -> None:
    assert not filesystem.is_remote(kind)
    assert sqlite.journal_mode(kind) == ("wal" if SOUND else "delete")


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", "ext4"),
        ("/home", "nfs4"),
        ("/home/me/queue", "nfs4"),
        ("/homeless", "ext4"),
        ("/home/me/disk/queue", "xfs"),
        ("/mnt/twice", "tmpfs"),
    ],
)
def test_the_deepest_mount_decides_and_of_equals_the_last(folder: str, kind: str) -> None:
    mounts = [
        ("/", "ext4"),
        ("/home/me/disk", "xfs"),
        ("/home", "nfs4"),
        ("/mnt/twice", "cifs"),
        ("/mnt/twice", "tmpfs"),
    ]

    assert filesystem.find_kind(PurePosixPath(folder), mounts) == kind


def test_a_place_that_no_mount_holds_is_unknown() -> None:
    assert filesystem.find_kind(PurePosixPath("/"), []) is None


def test_this_machine_knows_the_kind_of_its_folders(tmp_path: Path) -> None:
    assert filesystem.kind_of(Path("/proc")) == "proc"
    assert filesystem.kind_of(tmp_path)


def test_a_store_made_on_a_network_file_system_gets_the_rollback_journal(
    location: StoreLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    [entry, *_] = psutil.disk_partitions(all=True)
    mounts = [entry._replace(mountpoint="/", fstype="nfs4")]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)

    schema.prepare(location)

    assert inspection.journal_mode(location) == "delete"
