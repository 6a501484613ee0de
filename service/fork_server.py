"""The fork server: a process with one thread, no snapshot and no caller's connection, which forks all other processes.

A server that answers has threads that hold locks. A process forked from it would inherit the locks without the threads
and could hang. So the server forks once, before it answers, and this fork server forks every later process.
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

# Set before the first use of gRPC, which would otherwise restart its threads in a forked process.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from meshfold.service.errors import log_failure

# The work of a forked process, given its end of a connection. The process ends when this returns.
Serve = Callable[[Connection], None]


class ForkServer:
    """The server's handle of the fork server, which ends when the handle is closed or freed. pid: the fork server's."""

    def __init__(self, serve: Serve) -> None:
        """Forks at once. serve: the work of each process that fork() makes."""
        ours, theirs = socket.socketpair()
        # A collection in the forked process could run destructors that wait for threads which the fork did not copy.
        was_on = gc.isenabled()
        gc.disable()
        try:
            with warnings.catch_warnings():
                # Python 3.12 and later warn when a process with threads forks. The fork releases what they own.
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
        self._has_ended = False
        self._close = weakref.finalize(self, _end, ours, self.pid)

    def fork(self) -> Connection:
        """Makes a process and returns a connection to it. Raises OSError where the fork server has ended."""
        try:
            return request_process(self._control, self._lock)
        except OSError:
            self._has_ended = True
            raise

    @property
    def has_ended(self) -> bool:
        """Whether a fork found the fork server gone: the system killed it, or it was closed."""
        return self._has_ended

    def close(self) -> None:
        """Kills the fork server and every process that it forked. Later calls do nothing."""
        self._close()


def request_process(control: socket.socket, lock: threading.Lock) -> Connection:
    """Has fork_on_request(), at the other end of `control`, make a process; returns a connection to it.

    Raises OSError where the other end is closed.
    """
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
    """Forks a process for each connection received, until the other end closes. Returns the ids of those running."""
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
            # Closing the connection shows the requester that the fork failed.
            log_failure("no process could be forked", error)
            os.close(handles[0])
            continue
        if pid == 0:
            control.close()
            _run_and_exit(partial(serve, Connection(handles[0])))
        os.close(handles[0])
        made.append(pid)


def wait_for(pids: list[int]) -> None:
    """Waits until the processes have ended."""
    for pid in pids:
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)


def _make_processes(control: socket.socket, serve: Serve) -> None:
    _release_all_but(control.fileno())
    warnings.simplefilter("ignore", DeprecationWarning)
    # ^C reaches the whole process group; the server handles it and then ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # OpenMP keeps a pool of helper threads for each thread, which a fork does not copy. A new thread has no pool yet.
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
    """Runs the function, then exits: code of the forking process must not run a second time."""
    status = 1
    try:
        # The process at the other end of a connection may have ended.
        with suppress(EOFError, BrokenPipeError, ConnectionResetError):
            run()
        status = 0
    except BaseException as error:
        log_failure("a process ends", error)
    finally:
        os._exit(status)


def _release_all_but(handle: int) -> None:
    """Opens /dev/null in place of every file and socket of the server, except standard streams and `handle`.

    A socket left open here would look alive at its other end, and a file lock would stay locked. The descriptor numbers
    stay valid, because a library that closes its own after a fork aborts when that fails (Arrow's signal pipe).
    """
    with open(os.devnull, "r+b") as nothing:
        for name in os.listdir("/dev/fd"):
            if int(name) > 2 and int(name) not in (handle, nothing.fileno()):
                # The descriptor of the listing itself is already closed.
                with suppress(OSError):
                    os.fstat(int(name))
                    os.dup2(nothing.fileno(), int(name), inheritable=False)


def _end(control: socket.socket, pid: int) -> None:
    control.close()
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)
