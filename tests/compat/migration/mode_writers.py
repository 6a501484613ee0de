"""Processes that use a file of modes beside the one that tests: python mode_writers.py WORD PATH

hold: holds the lock until stdin ends. follow: prints the default's mode whenever it changes, until stdin ends.
kill: switches everything to the mesh. die: forks writers, one after the other, and kills each in the middle of its
writes; prints what it found wrong after each. denied: loses the permission to the folder while it runs, and prints
what a kill and a new start say.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import random
import select
import signal
import sys
import time
from pathlib import Path

from meshfold.compat.migration.mode_file import ModeFile
from meshfold.compat.migration.mode_switch import ModeSwitch
from meshfold.compat.migration.modes import Kind, Mode
from meshfold.model.errors import InvalidConfig, NotDurable

_DEATHS = 40


def hold(path: Path) -> None:
    with path.with_name(path.name + ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        print("held", flush=True)
        sys.stdin.read()


def follow(path: Path) -> None:
    switch = ModeSwitch(ModeFile(path))
    switch.start()
    told = None
    while not select.select([sys.stdin], [], [], 0.01)[0]:
        if (mode := str(switch.current.default.mode)) != told:
            told = mode
            print(mode, flush=True)
    switch.stop()


def kill(path: Path) -> None:
    switch = ModeSwitch(ModeFile(path))
    switch.start()
    switch.kill("another process", "")
    switch.stop()


def die(path: Path) -> None:
    chance = random.Random(5)
    generation = 0
    for _ in range(_DEATHS):
        child = os.fork()
        if child == 0:
            switch = ModeSwitch(ModeFile(path))
            for i in itertools.count():
                switch.set("feed", Mode(Kind.CANARY, i % 100), "me", "x" * (i % 50))
        time.sleep(chance.uniform(0.001, 0.04))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        modes = ModeFile(path).read()
        if modes is not None:
            if modes.generation < generation:
                print(f"generation {modes.generation} after {generation}")
            generation = modes.generation
    print("done")


def denied(path: Path) -> None:
    switch = ModeSwitch(ModeFile(path))
    switch.start()
    path.parent.chmod(0)
    if os.geteuid() == 0:
        os.seteuid(65534)
    try:
        switch.kill("me", "")
    except NotDurable as error:
        print(switch.current.default.mode, error)
    try:
        ModeSwitch(ModeFile(path))
    except InvalidConfig as error:
        print(error)
    os.seteuid(os.getuid())
    path.parent.chmod(0o700)
    switch.stop()


def main() -> None:
    word, path = sys.argv[1:]
    {"hold": hold, "follow": follow, "kill": kill, "die": die, "denied": denied}[word](Path(path))


if __name__ == "__main__":
    main()
