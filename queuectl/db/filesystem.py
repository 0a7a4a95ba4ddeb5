"""What kind of file system a store lies on: WAL needs memory that all its users share.

Over a network they do not, and SQLite's documentation rules it out ("WAL does not work over a
network filesystem", sqlite.org/wal.html). A store that is created there gets the rollback journal.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePath

_REMOTE = frozenset(
    {
        "9p",
        "afpfs",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "davfs",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs3",
        "nfs4",
        "ocfs2",
        "osxfs",
        "prl_fs",
        "smb2",
        "smb3",
        "smbfs",
        "vboxsf",
        "virtiofs",
        "vmhgfs",
        "webdav",
    }
)


def is_remote(kind: str | None) -> bool:
    """Whether files of this kind of file system may be another machine's.

    So may those of any program in user space (``fuse.sshfs``), but for disks (``fuseblk``). A kind
    that is not known is taken for local.
    """
    kind = (kind or "").lower()
    return kind in _REMOTE or kind == "fuse" or kind.startswith(("fuse.", "macfuse", "osxfuse"))


def kind_of(folder: Path) -> str | None:
    """Return the kind of file system that a folder lies on, ``ext4`` or ``nfs4``; None: unknown."""
    import psutil  # only where a store is made or examined: it costs 10 ms

    mounts = ((entry.mountpoint, entry.fstype) for entry in psutil.disk_partitions(all=True))
    return find_kind(folder.resolve(), mounts)


def find_kind(folder: PurePath, mounts: Iterable[tuple[str, str]]) -> str | None:
    """Return the kind of the mount that a folder is in: the deepest, of equals the last one."""
    deepest, kind = -1, None
    for point, name in mounts:
        place = PurePath(point)
        if folder.is_relative_to(place) and len(place.parts) >= deepest:
            deepest, kind = len(place.parts), name
    return kind
