"""Runs a test's process in a group of its own, with a limit, its output in a file.

Owns: the process group and its end. Does not own: what the output means.
"""
import os
import re
import signal
import subprocess
import time

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def run(command, log, limit_seconds, environment=None, cwd=None):
    """(exit code, or None when the limit was reached; seconds; output without colours)."""
    log.parent.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with open(log, "wb") as out:
        process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                   env=os.environ | (environment or {}), cwd=cwd, start_new_session=True)
        try:
            code = process.wait(limit_seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            end_group(process)
    return code, time.monotonic() - began, COLOUR.sub("", log.read_text(errors="replace"))


def end_group(process):
    """Nothing that a test started outlives it."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def build(command, log, environment=None, cwd=None):
    """Runs one step of getting a suite ready; what it says is shown when it fails."""
    code, _, output = run(command, log, 1800, environment, cwd)
    if code != 0:
        raise RuntimeError(f"{' '.join(str(word) for word in command)} failed ({code}):\n{output[-3000:]}")
    return output
