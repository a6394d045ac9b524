# SPDX-License-Identifier: Apache-2.0
"""Becomes a command, in the same process, where /dev/termination-log is a file of ours. Run as a script by process_logs.

It works in a mount namespace of its own, so that nothing changes for anybody else and nothing stays behind: over /dev it
lays a file system that shows all that was there, and the log besides. A user who may not make a mount namespace makes a
user namespace first, in which everything of his is his as before. It imports nothing of Kubesaga and starts in 20 ms.

    python -I -S -X utf8 process_launcher.py ORDER REPORT

ORDER is a file with `{"command": […], "env": {…}, "cwd": …, "log": …, "room": …}`: `log` null leaves /dev as it is,
`room` is an empty folder to mount things on, an empty command is a trial. REPORT is an open file that gets one sentence where the command could not
be started, and is closed where it could. Exit status 125: no namespace; 126: the command could not be started.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import stat
import sys

TERMINATION_LOG = "/dev/termination-log"
NO_NAMESPACE = 125
NOT_STARTED = 126

# linux/sched.h and sys/mount.h
_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_MS_NOSUID = 2
_MS_NOEXEC = 8
_MS_BIND = 4096
_MS_MOVE = 8192
_MS_REC = 16384
_MS_PRIVATE = 1 << 18
_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def main(order_path: str, report: int) -> int:
    """Carry out the order; returns only if that fails, or if there is no command to become."""
    os.set_inheritable(report, False)
    with open(order_path, encoding="utf-8") as file:
        order = json.load(file)
    status = NO_NAMESPACE
    try:
        if order["log"] is not None:
            _enter_namespace()
            _lay_over_dev(order["room"], order["log"])
        status = NOT_STARTED
        if order["command"]:
            _become(order["command"], order["env"], order["cwd"])
    except (OSError, ValueError) as error:
        os.write(report, _sentence(error, order["command"]).encode(errors="replace"))
        return status
    return 0


def _enter_namespace() -> None:
    uid, gid = os.getuid(), os.getgid()
    if _libc.unshare(_CLONE_NEWNS) != 0:
        refused = os.strerror(ctypes.get_errno())
        if _libc.unshare(_CLONE_NEWNS | _CLONE_NEWUSER) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{refused}; in a user namespace: {os.strerror(number)}")
        # A user without privileges may map himself alone, and his group only after giving up setgroups (user_namespaces(7)).
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)


def _lay_over_dev(room: str, log: str) -> None:
    _mount("tmpfs", room, "tmpfs", _MS_NOSUID | _MS_NOEXEC, "mode=755,size=1m")
    for entry in os.scandir("/dev"):
        if entry.path != TERMINATION_LOG:
            _show(entry, os.path.join(room, entry.name))
    place = os.path.join(room, os.path.basename(TERMINATION_LOG))
    _touch(place)
    _mount(log, place, None, _MS_BIND)
    _mount(room, "/dev", None, _MS_MOVE)


def _show(entry: os.DirEntry[str], place: str) -> None:
    try:
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), place)
            return
        if stat.S_ISDIR(entry.stat(follow_symlinks=False).st_mode):
            os.mkdir(place)
        else:
            _touch(place)
        _mount(entry.path, place, None, _MS_BIND | _MS_REC)
    except FileNotFoundError:
        pass  # a device that was unplugged since


def _become(command: list[str], env: dict[str, str], cwd: str | None) -> None:
    # Python ignores these two, and what is ignored stays ignored over exec.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    # Should the one who started us be killed, nobody would be left to stop the command.
    _call(_libc.prctl, _PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
    if cwd is not None:
        os.chdir(cwd)
    os.execvpe(command[0], command, env)  # noqa: S606 - it is what this script is for


def _touch(path: str) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_CLOEXEC, 0o644))


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind)]
    _call(_libc.mount, *words, ctypes.c_ulong(flags), None if data is None else data.encode())


def _call(function: object, *arguments: object) -> None:
    assert callable(function)
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _sentence(error: OSError | ValueError, command: list[str]) -> str:
    if not isinstance(error, OSError):
        return str(error)
    # execvpe names the last place on PATH that it looked at, which explains nothing.
    what = error.filename if isinstance(error.filename, str) else command[0] if error.filename else ""
    return f"{what}: {error.strerror}" if what else str(error.strerror)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
