"""What a test did and what was expected of it.

Owns: rows, the file of expectations, the comparison. Does not own: how tests are run (the suites), which brokers they meet (`brokers`).
"""
import dataclasses
import pathlib

HERE = pathlib.Path(__file__).resolve().parent
PASS, FAIL, SKIP = "pass", "fail", "skip"
# What may be expected: it passes; it cannot, for something is not built yet; it fails, for a known cause; it cannot be run here; it
# depends on the moment.
VERDICTS = {"pass": {PASS}, "waits": {FAIL, SKIP}, "fails": {FAIL}, "skips": {SKIP}, "varies": {PASS, FAIL}}


@dataclasses.dataclass(frozen=True)
class Row:
    """One named test of one suite, run. why: the first thing it said about its failure."""
    name: str
    outcome: str
    seconds: float
    why: str = ""


@dataclasses.dataclass(frozen=True)
class Unit:
    """What one process runs: mostly one test, sometimes a few that cannot be told apart on the command line."""
    name: str
    limit_seconds: float = 300.0
    settings: tuple = ()  # of the broker, as pairs


@dataclasses.dataclass(frozen=True)
class Expectation:
    verdict: str
    cause: str


class BadFile(Exception):
    """A line of a file beside this one that cannot be meant."""


def lines(path):
    """Words of each line that is no comment: (line number, name, the rest)."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        line = line.split("#", 1)[0].strip()
        if line:
            name, _, rest = line.partition(" ")
            yield number, name, rest.strip()


def load_expectations(clustered):
    """Name of a row to its expectation. What differs on a cluster stands in a file of its own."""
    found = {}
    for path in [HERE / "expected.txt"] + ([HERE / "expected-cluster.txt"] if clustered else []):
        seen = set()
        for number, name, rest in lines(path):
            verdict, _, cause = rest.partition(" ")
            if verdict not in VERDICTS or name in seen or bool(cause.strip()) == (verdict == "pass"):
                raise BadFile(f"{path.name}:{number}: {name} {rest}")
            seen.add(name)
            found[name] = Expectation(verdict, cause.strip())
    return found


def surprise(row, expectation):
    """What is wrong with the row, given what was expected; None if nothing is."""
    if expectation is None:
        return f"{row.outcome}, and nothing is expected of it"
    if row.outcome in VERDICTS[expectation.verdict]:
        return None
    wanted = expectation.verdict + (f" ({expectation.cause})" if expectation.cause else "")
    return f"{row.outcome}, expected: {wanted}"


def did_not_run(selected_prefixes, rows, expectations):
    """Names that are expected below what ran, and of which nothing was heard."""
    heard = {row.name for row in rows}
    return [name for name in expectations if name not in heard and any(name == p or name.startswith(p) for p in selected_prefixes)]
