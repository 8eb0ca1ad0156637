"""infra/local: a run that is killed takes with it what it has started, in whatever session that is; two runs get different ports."""
import os
import pathlib
import signal
import subprocess
import sys
import time
import unittest

LOCAL = pathlib.Path(__file__).resolve().parent.parent.parent / "infra" / "local"
RUN = """
import subprocess, sys, time
sys.path.append(sys.argv[1])
import guard
guard.watch()
child = subprocess.Popen(["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE, text=True, start_new_session=True)
print(child.pid, child.stdout.readline().strip(), flush=True)
if sys.argv[2] == "wait":
    time.sleep(60)
"""


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class Guard(unittest.TestCase):
    def gone(self, pids):
        deadline = time.monotonic() + 10
        while any(map(alive, pids)) and time.monotonic() < deadline:
            time.sleep(0.02)
        return not any(map(alive, pids))

    def started(self, how):
        run = subprocess.Popen([sys.executable, "-c", RUN, str(LOCAL), how], stdout=subprocess.PIPE, text=True)
        self.addCleanup(run.stdout.close)
        pids = [int(word) for word in run.stdout.readline().split()]
        self.assertEqual(len(pids), 2)
        return run, pids

    def test_killed(self):
        for number in signal.SIGKILL, signal.SIGTERM:
            with self.subTest(number):
                run, pids = self.started("wait")
                self.assertTrue(all(map(alive, pids)))
                os.kill(run.pid, number)
                run.wait()
                self.assertTrue(self.gone(pids))

    def test_ended_by_itself(self):
        run, pids = self.started("end")
        self.assertEqual(run.wait(), 0)
        self.assertTrue(self.gone(pids))

    def test_others_are_left_alone(self):
        other = subprocess.Popen(["sleep", "60"])
        run, pids = self.started("end")
        run.wait()
        self.assertTrue(self.gone(pids))
        self.assertIsNone(other.poll())
        other.kill()
        other.wait()


class Ports(unittest.TestCase):
    def test_two_runs_at_once_get_different_ports(self):
        code = "import os, sys; sys.path.append(sys.argv[1]); os.getpid = lambda: 7; import cluster; print(*(cluster.free_port() for _ in range(200))); sys.stdin.read()"
        runs = [subprocess.Popen([sys.executable, "-c", code, str(LOCAL)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        given = [run.stdout.readline().split() for run in runs]
        for run in runs:
            run.communicate()
        self.assertEqual([len(ports) for ports in given], [200, 200])
        self.assertEqual(len({*given[0], *given[1]}), 400)


if __name__ == "__main__":
    unittest.main()
