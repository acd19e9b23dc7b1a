"""Fires by croniter, for the comparison in forest-server/src/schedule/tests/croniter.rs.

Reads a file of questions, one a line: expression, zone, epoch second, count, divided by tabs. Writes for each a
line of epoch seconds divided by commas, or `error: ...`.
"""

import sys
from datetime import datetime
from zoneinfo import ZoneInfo

from croniter import croniter


def fires(expression, zone, start, count):
    begin = datetime.fromtimestamp(start, ZoneInfo(zone))
    # The switches that make its dialect ours: seconds come first, and a star with a step is no restriction of
    # the day, so that both day fields must match.
    walk = croniter(expression, begin, second_at_beginning=True, day_or=True, implement_cron_bug=True)
    return [int(walk.get_next(datetime).timestamp()) for _ in range(count)]


def main(path):
    with open(path, encoding="utf-8") as questions:
        for line in questions:
            expression, zone, start, count = line.rstrip("\n").split("\t")
            try:
                print(",".join(map(str, fires(expression, zone, int(start), int(count)))))
            except Exception as error:  # Told to the test, which fails on it.
                print(f"error: {type(error).__name__}: {error}".replace("\n", " "))


main(sys.argv[1])
