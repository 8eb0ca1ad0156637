"""Nothing that a run has started outlives it, also when the run is killed.

Owns: a guard process that waits for the end of the run and then kills whatever carries the run's mark in its environment, whichever session or
parent it has by then. Does not own: the orderly end, which every run sees to itself.
"""
import os
import signal
import time
import uuid

MARK = "STARTED_BY_RUN"
PATIENCE_SECONDS = 10


def watch():
    """To be called once, before anything is started and before there are threads."""
    mark = uuid.uuid4().hex
    held, kept = os.pipe()  # neither is inherited by what the run executes; `kept` is open until the run ends
    if os.fork() == 0:
        guard(held, kept, f"{MARK}={mark}".encode())
    os.close(held)
    os.environ[MARK] = mark


def guard(held, kept, mark):
    try:
        os.setsid()  # what ends the run from a terminal is not for the guard
        os.close(kept)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nowhere, stream)
        os.read(held, 1)  # returns when the run is gone, for whatever reason
        deadline = time.monotonic() + PATIENCE_SECONDS
        while kill_all(mark) and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        os._exit(0)


def kill_all(mark):
    """Whether there was one."""
    found = False
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                if mark in file.read().split(b"\0"):
                    found = True
                    os.kill(int(name), signal.SIGKILL)
        except OSError:  # gone, or somebody else's
            continue
    return found
