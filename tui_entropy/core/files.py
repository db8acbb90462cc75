"""Files of this user: read only where they are regular ones, kept where nobody else can reach.

A name may lead to a pipe or a device, whose opening waits for ever, or through a link that somebody else put into a
shared folder. Libraries that open files by themselves are given names that `regular` has looked at.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from tui_entropy.core.errors import UserError

NO_FILE = "not a regular file"


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file to read its bytes, never waiting for another program. Raises OSError."""
    if "\0" in os.fspath(path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, NO_FILE, os.fspath(path))
    return open(descriptor, "rb")


def bytes_of(path: Path) -> bytes:
    """All of a regular file. Raises OSError."""
    with open_regular(path) as file:
        return file.read()


def text_of(path: Path) -> str:
    """The text of a regular file. Raises OSError, and UnicodeDecodeError where it is no UTF-8."""
    return bytes_of(path).decode("utf-8")


def kept_open(path: Path, flags: int) -> int:
    """A descriptor of a file that only this user can read, made if it is not there. `flags` as in os.open.

    Raises OSError where the name is a link, or the file is somebody else's.
    """
    descriptor = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid():
        os.close(descriptor)
        raise OSError(errno.EPERM, "not a file of this user", os.fspath(path))
    os.fchmod(descriptor, 0o600)
    return descriptor


def private(folder: Path) -> Path:
    """The folder, made if it is not there. Raises UserError where others can open it or say where it leads."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
    except OSError as refused:
        raise UserError(
            f"the folder {folder} cannot be made ({refused.strerror}): the engine's socket needs one of its own, set "
            "XDG_RUNTIME_DIR to a private folder"
        ) from refused
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise UserError(
            f"{folder} is a link or belongs to another user, and the engine's socket needs a folder of its own: "
            "remove it or set XDG_RUNTIME_DIR to a private folder"
        )
    if status.st_mode & 0o077:
        raise UserError(
            f"the folder {folder} can be opened by others; the engine's socket needs one of its own: "
            f"`chmod 700 {folder}` or set XDG_RUNTIME_DIR to a private folder"
        )
    return folder
