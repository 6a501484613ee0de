"""A process that forks others: it has no snapshot, no connection of a caller, and one thread.

A server that answers is full of threads that hold locks; a process forked from it would have the locks without the
threads. So a server forks once, before it answers, and the process that it forked then makes all others.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import threading
import warnings
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection

# Before gRPC is used for the first time: in a forked process it would start its threads again.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from meshfold.service.errors import log_failure

# What a forked process does with its end of a connection. It ends when this returns.
Serve = Callable[[Connection], None]


class ForkServer:
    """The server's end. It ends its process when it is closed or freed. pid: of that process."""

    def __init__(self, serve: Serve) -> None:
        """Forks at once. serve: of each process that fork() makes."""
        ours, theirs = socket.socketpair()
        # Of objects that other threads made, a collection in the forked process would run destructors that wait for
        # those threads.
        was_on = gc.isenabled()
        gc.disable()
        try:
            with warnings.catch_warnings():
                # Python from 3.12 on warns where a process with threads forks. This one closes what they own.
                warnings.simplefilter("ignore", DeprecationWarning)
                self.pid = os.fork()
            if self.pid == 0:
                gc.freeze()
                gc.enable()
                _run_and_exit(partial(_make_processes, theirs, serve))
        finally:
            if was_on:
                gc.enable()
        theirs.close()
        self._control = ours
        self._lock = threading.Lock()
        self._close = weakref.finalize(self, _end, ours, self.pid)

    def fork(self) -> Connection:
        """A connection to a new process. Raises OSError where the fork server has ended."""
        return forked(self._control, self._lock)

    def close(self) -> None:
        """Kills what it forked and still runs. Once is enough."""
        self._close()


def forked(control: socket.socket, lock: threading.Lock) -> Connection:
    """A connection to a process that fork_on_request() at the other end of `control` makes. Raises OSError."""
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            with lock:
                socket.send_fds(control, [b"f"], [theirs.fileno()])
        except OSError:
            ours.close()
            raise
    return Connection(ours.detach())


def fork_on_request(control: socket.socket, serve: Serve) -> list[int]:
    """Forks a process for each connection that comes, until the other end is closed. The processes' ids."""
    made: list[int] = []
    while True:
        try:
            _, handles, _, _ = socket.recv_fds(control, 1, 1)
        except OSError:
            return made
        if not handles:
            return made
        made = [pid for pid in made if os.waitpid(pid, os.WNOHANG)[0] == 0]
        try:
            pid = os.fork()
        except OSError as error:
            # Whoever asked finds its connection closed.
            log_failure("no process could be forked", error)
            os.close(handles[0])
            continue
        if pid == 0:
            control.close()
            _run_and_exit(partial(serve, Connection(handles[0])))
        os.close(handles[0])
        made.append(pid)


def wait_for(pids: list[int]) -> None:
    """Until they have ended."""
    for pid in pids:
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)


def _make_processes(control: socket.socket, serve: Serve) -> None:
    _release_all_but(control.fileno())
    warnings.simplefilter("ignore", DeprecationWarning)
    # Whoever stops the server by ^C stops it, and it stops this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # OpenMP keeps for each thread those that help it. A thread that is new has none that were not forked with it.
    thread = threading.Thread(target=_fork_and_end, args=(control, serve), name="meshfold-forks")
    thread.start()
    thread.join()


def _fork_and_end(control: socket.socket, serve: Serve) -> None:
    pids = fork_on_request(control, serve)
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_for(pids)


def _run_and_exit(run: Callable[[], None]) -> None:
    """Does not return, so that no other code of the forking process runs a second time."""
    status = 1
    try:
        # Whoever is at the other end of a connection may have ended.
        with suppress(EOFError, BrokenPipeError, ConnectionResetError):
            run()
        status = 0
    except BaseException as error:
        log_failure("a process ends", error)
    finally:
        os._exit(status)


def _release_all_but(handle: int) -> None:
    """Opens /dev/null in place of every file and socket of the server; standard streams stay.

    A socket that stayed open here would look alive at its other end, and a lock on a file would stay held. The numbers
    stay valid, since libraries close theirs after a fork and abort where that fails (Arrow's pipe for signals does).
    """
    with open(os.devnull, "r+b") as nothing:
        for name in os.listdir("/dev/fd"):
            if int(name) > 2 and int(name) not in (handle, nothing.fileno()):
                # The listing's own handle is closed by now.
                with suppress(OSError):
                    os.fstat(int(name))
                    os.dup2(nothing.fileno(), int(name), inheritable=False)


def _end(control: socket.socket, pid: int) -> None:
    control.close()
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)
