"""What a process can reach, cut down step by step, by the process itself before it is an agent.

Each step is irrevocable. Their order is the caller's, and matters: mounts need the privileges that
a change of user gives up, and Landlock forbids mounts.
"""

from __future__ import annotations

import os
import sys

from deployer import landlock
from deployer.kernel import SandboxError, call, system_call, u64

_CLONE_NEWNS, _CLONE_NEWIPC, _CLONE_NEWUSER = 0x20000, 0x8000000, 0x10000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 2, 4, 8, 0x4000, 0x40000
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_AT_FDCWD, _AT_SYMLINK_NOFOLLOW, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x100, 0x1000, 0x8000
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_MOUNT_ATTR_RDONLY = 1

_PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 23, 24, 38
_MOST_CAPABILITIES = 64

_FILE_TYPE, _DIRECTORY = 0o170000, 0o040000  # inode(7); the stat module is not worth its time

_SWITCHES = {
    b"namespaces": "has_namespaces",
    b"hide_processes": "hides_processes",
    b"landlock": "has_landlock",
}
_LISTS = {b"exposed", b"exposed_read_only", b"readable", b"writable", b"unlisted"}


class Sandbox:
    """The part of a launch policy that is about this; every path is bytes, exactly as it came.

    It reads what `deployer.launch_policies.Sandbox` wrote, without importing that.

    Attributes:
        uid: User and group to become; None: stay who we are.
        has_namespaces: Take mounts and System V IPC of our own.
        covers: Mode, size in bytes and path of directories that become empty and private.
        exposed: Paths below covers that stay.
        exposed_read_only: The same, but can only be read; attached last.
        hides_processes: Show only processes of the same user in /proc.
        has_landlock: Refuse everything but the following.
        readable: Files, or all below directories.
        writable: Files, or all below directories.
        unlisted: Writable directories whose names cannot be listed.
    """

    def __init__(self) -> None:
        """Start without any limit, to be filled line by line."""
        self.uid: int | None = None
        self.has_namespaces = False
        self.covers: list[tuple[int, int, bytes]] = []
        self.exposed: list[bytes] = []
        self.exposed_read_only: list[bytes] = []
        self.hides_processes = False
        self.has_landlock = False
        self.readable: list[bytes] = []
        self.writable: list[bytes] = []
        self.unlisted: list[bytes] = []

    def read_line(self, key: bytes, text: bytes) -> bool:
        """Take one line of a launch policy.

        Returns:
            False when it is not about this.

        Raises:
            ValueError: It is, and cannot be read.
        """
        if key == b"user":
            self.uid = int(text)
        elif key in _SWITCHES:
            setattr(self, _SWITCHES[key], True)
        elif key == b"cover":
            mode, size, path = text.split(b" ", 2)
            self.covers.append((int(mode, 8), int(size), path))
        elif key in _LISTS:
            getattr(self, key.decode()).append(text)
        else:
            return False
        return True


def take_namespaces(sandbox: Sandbox) -> None:
    """Cover what others have, and leave in place what is ours.

    An ordinary user is allowed to by a user namespace of its own, in which it is who it was.

    Raises:
        SandboxError: The kernel refused, or something to expose is not there.
    """
    if not sandbox.has_namespaces:
        return
    uid, gid = os.geteuid(), os.getegid()
    kinds = _CLONE_NEWNS | _CLONE_NEWIPC | (_CLONE_NEWUSER if uid else 0)
    call("unshare", kinds, act="take namespaces of its own")
    if uid:
        _write(b"/proc/self/setgroups", b"deny")
        _write(b"/proc/self/uid_map", b"%d %d 1" % (uid, uid))
        _write(b"/proc/self/gid_map", b"%d %d 1" % (gid, gid))
    _mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE)
    # Opened after unshare: a mount of the namespace before cannot be attached in this one.
    trees = [
        *((path, _clone_tree(path)) for path in sandbox.exposed),
        *((path, _make_read_only(_clone_tree(path))) for path in sandbox.exposed_read_only),
    ]
    for mode, size, path in sandbox.covers:
        options = b"mode=%o,size=%d,nr_inodes=%d" % (mode, size, max(256, size >> 12))
        _mount(b"none", path, b"tmpfs", _MS_NOSUID | _MS_NODEV, options)
    for path, tree in trees:
        _attach_tree(path, tree)
        os.close(tree)
    if sandbox.hides_processes:
        flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
        _mount(b"proc", b"/proc", b"proc", flags, b"hidepid=2")


def change_user(sandbox: Sandbox) -> None:
    """Become the agent's own user and group, and member of no other.

    Raises:
        SandboxError: The kernel refused.
    """
    if sandbox.uid is None:
        return
    try:
        os.setgroups([])
        os.setresgid(sandbox.uid, sandbox.uid, sandbox.uid)
        os.setresuid(sandbox.uid, sandbox.uid, sandbox.uid)
    except OSError as error:
        raise SandboxError(f"cannot become uid {sandbox.uid}: {error.strerror}") from error


def restrict(sandbox: Sandbox, port: int) -> None:
    """Let no setuid program give privileges back, and refuse what the sandbox does not name.

    Args:
        sandbox: What it names.
        port: The TCP port that can be bound. So can port 0: ``listen`` without ``bind`` takes a
            free port whatever Landlock says, and libraries that ask for one need not fail.

    Raises:
        SandboxError: The kernel refused.
    """
    if sys.platform != "linux":
        return
    call("prctl", _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, act="give up gaining privileges")
    if not sandbox.has_landlock:
        return
    if os.geteuid() == 0:
        _drop_capabilities()
    landlock.restrict(sandbox.readable, sandbox.writable, sandbox.unlisted, (0, port))


def _drop_capabilities() -> None:
    """Leave a root that stays root nothing of its might once it executes the agent.

    Files are not all that root can harm: it may load modules, too.
    """
    for number in range(_MOST_CAPABILITIES):
        try:
            call("prctl", _PR_CAPBSET_READ, number, 0, 0, 0, act="know this capability")
        except SandboxError:
            return  # the kernel knows no more of them
        call("prctl", _PR_CAPBSET_DROP, number, 0, 0, 0, act="give up root's capabilities")


def _clone_tree(path: bytes) -> int:
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_RECURSIVE | _AT_SYMLINK_NOFOLLOW
    return system_call(_OPEN_TREE, _AT_FDCWD, path, flags, act=f"expose {os.fsdecode(path)}")


def _make_read_only(tree: int) -> int:
    attributes = u64(_MOUNT_ATTR_RDONLY, 0, 0, 0)  # struct mount_attr
    flags = _AT_EMPTY_PATH | _AT_RECURSIVE
    system_call(
        _MOUNT_SETATTR, tree, b"", flags, attributes, len(attributes), act="expose to read only"
    )
    return tree


def _attach_tree(path: bytes, tree: int) -> None:
    name = os.fsdecode(path)
    try:
        if os.fstat(tree).st_mode & _FILE_TYPE == _DIRECTORY:
            _make_directory(path)
        else:
            _make_directory(os.path.dirname(path))  # noqa: PTH120 - pathlib costs too much
            os.close(os.open(path, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o644))
    except OSError as error:
        raise SandboxError(f"cannot make a place for {name}: {error.strerror}") from error
    arguments = (tree, b"", _AT_FDCWD, path, _MOVE_MOUNT_F_EMPTY_PATH)
    system_call(_MOVE_MOUNT, *arguments, act=f"expose {name}")


def _make_directory(path: bytes) -> None:
    """Make a directory with those above it; what can be walked through need not be listed."""
    if not os.path.isdir(path):  # noqa: PTH112 - pathlib costs too much
        _make_directory(os.path.dirname(path))  # noqa: PTH120 - the same
        os.mkdir(path)  # noqa: PTH102 - the same
        os.chmod(path, 0o711)  # noqa: PTH101, S103 - the same; to be walked through is its purpose


def _mount(
    source: bytes, path: bytes, kind: bytes | None, flags: int, options: bytes | None = None
) -> None:
    call("mount", source, path, kind, flags, options, act=f"mount over {os.fsdecode(path)}")


def _write(path: bytes, content: bytes) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        os.write(descriptor, content)
        os.close(descriptor)
    except OSError as error:
        raise SandboxError(f"cannot write {os.fsdecode(path)}: {error.strerror}") from error
