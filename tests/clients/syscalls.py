"""Reads a trace of system calls and judges the order behind an acknowledgement.

Owns: what the order must be. Does not own: how it was traced. Knows of the data directory only that files which existed before the request are the metadata store's, and new ones are objects.
"""
import dataclasses
import os
import re

from harness import check

TRACED = "openat,open,creat,mkdir,mkdirat,rename,renameat,renameat2,link,linkat,fsync,fdatasync,write,writev,sendto,sendmsg,read,recvfrom,recvmsg,readv"
LINE = re.compile(r"^(\d+) +(\d+\.\d+) (\w+)\((.*?)\) += (-?\d+)(?:<[^\n]*>)?(?: .*?)? <(\d+\.\d+)>$")
UNFINISHED = re.compile(r"^(\d+) +(\d+\.\d+) (\w+)\((.*) <unfinished \.\.\.>$")
RESUMED = re.compile(r"^(\d+) +(\d+\.\d+) <\.\.\. (\w+) resumed>(.*?)\) += (-?\d+)(?:<[^\n]*>)?(?: .*?)? <(\d+\.\d+)>$")
DESCRIPTOR = re.compile(r"^(\d+)<(.*?)>(?:,|$)")


@dataclasses.dataclass
class Call:
    """One system call that succeeded: when it began and ended, and what it was about."""
    name: str
    arguments: str
    began: float
    ended: float

    @property
    def about(self):
        """The path or socket of the first argument."""
        match = DESCRIPTOR.match(self.arguments)
        return match.group(2) if match else ""

    @property
    def paths(self):
        return re.findall(r'"((?:[^"\\]|\\.)*)"', self.arguments)


def parse(lines):
    """The successful calls of a `strace -f -ttt -T -yy` trace, by the time they began."""
    calls, open_calls = [], {}
    for line in lines:
        line = line.rstrip("\n")
        if match := UNFINISHED.match(line):
            thread, began, name, arguments = match.groups()
            open_calls[thread] = (name, arguments, float(began))
        elif match := RESUMED.match(line):
            thread, _, name, rest, result, seconds = match.groups()
            if thread in open_calls and open_calls[thread][0] == name:
                _, arguments, began = open_calls.pop(thread)
                if int(result) >= 0:
                    calls.append(Call(name, arguments + rest, began, began + float(seconds)))
        elif match := LINE.match(line):
            _, began, name, arguments, result, seconds = match.groups()
            if int(result) >= 0:
                calls.append(Call(name, arguments, float(began), float(began) + float(seconds)))
    return sorted(calls, key=lambda call: call.began)


def final_names(calls):
    """What became of renamed files: {first name: last name}."""
    names = {}
    for call in calls:
        if call.name.startswith(("rename", "link")) and len(call.paths) >= 2:
            source, target = call.paths[-2:]
            origin = next((o for o, n in names.items() if n == source), source)
            names[origin] = target
    return names


def disturbed(calls, data_dir, old_files):
    """Whether upkeep wrote an object of its own meanwhile: whose calls are whose cannot be told then."""
    names = final_names(calls)
    synced = {c.about for c in calls if c.name in ("fsync", "fdatasync") and c.about.startswith(data_dir)}
    homes = {os.path.dirname(names.get(path, path)) for path in synced if path not in old_files and not os.path.isdir(path)}
    made = [path for c in calls if c.name.startswith("mkdir") for path in c.paths]
    return len(homes) > 1 or any(not home.startswith(path) for path in made for home in homes)


def judge(calls, data_dir, old_files, socket):
    """Checks the calls between one request and its answer; returns a line that shows the order."""
    names = final_names(calls)
    syncs = [c for c in calls if c.name in ("fsync", "fdatasync") and c.about.startswith(data_dir)]
    answers = [c for c in calls if c.name in ("write", "writev", "sendto", "sendmsg") and socket in c.about]
    metadata = [c for c in syncs if c.about in old_files]
    objects = [c for c in syncs if c.about not in old_files and not os.path.isdir(c.about)]
    directories = {c.about: c for c in syncs if os.path.isdir(c.about)}
    check(objects, "no sync of a new file")
    check(metadata, "no sync of a file that existed before")
    check(answers, "no answer on the socket")
    answer = answers[0]
    for sync in objects:
        home = os.path.dirname(names.get(sync.about, sync.about))
        check(home in directories, f"no sync of {home}, the directory of the new object")
        check(sync.ended <= directories[home].began, f"directory {home} synced before the file in it")
        check(directories[home].ended <= metadata[-1].began, "metadata synced before the directory")
    for made in (path for c in calls if c.name.startswith("mkdir") for path in c.paths):
        parent = os.path.dirname(made)
        check(parent in directories and directories[parent].ended <= metadata[-1].began, f"no sync of {parent}, where a directory was made, before the metadata")
    check(metadata[-1].ended <= answer.began, "answered before the metadata was safe")
    check(objects[-1].ended <= metadata[-1].began, "metadata synced before the object")
    began = calls[0].began
    return "object {:.1f}, directory {:.1f}, metadata {:.1f}, answer {:.1f} ms".format(
        *(1000 * (c - began) for c in (objects[-1].ended, max(d.ended for d in directories.values()), metadata[-1].ended, answer.began)))
