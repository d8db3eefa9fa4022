"""Measures the same work in Python alone, without Erlang: no call can be cheaper than that.

`make bench` runs this program behind a port, and requests one batch of measurements at a time, in
turn with its own.
"""

import struct
import sys
import threading
import timeit
from typing import BinaryIO

_CODE = compile("1+1", "<floor>", "eval")

# The statement and the setup of each kind of job.
_WORK = {
    "eval": ("eval(code)", {"code": _CODE}),
    "sqrt": ("sqrt(16)", {"sqrt": __import__("math").sqrt}),
    "ints": ("list(x)", {"x": list(range(1, 100_001))}),
    "floats": ("list(x)", {"x": [n + 0.5 for n in range(100_000)]}),
    "binaries": ("list(x)", {"x": ["%08d" % n for n in range(100_000)]}),
    "map": ("dict(x)", {"x": {"%08d" % n: n for n in range(10_000)}}),
}


def _times(name: str, repeat: int, number: int) -> list[float]:
    """Return `repeat` figures: nanoseconds of one run, as the mean of `number` runs."""
    statement, names = _WORK[name]
    # `timeit` disables the garbage collector, which is enabled on a worker.
    timer = timeit.Timer(statement, setup="import gc; gc.enable()", globals=dict(names))
    return [seconds * 1e9 / number for seconds in timer.repeat(repeat, number)]


def _resident() -> int:
    """Return the resident bytes of this process."""
    with open("/proc/self/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def _thread_bytes(count: int) -> float:
    """Return the resident bytes of a thread that waits: the mean of `count` threads."""
    held = threading.Lock()
    held.acquire()
    before = _resident()
    for _ in range(count):
        threading.Thread(target=held.acquire, daemon=True).start()
    return (_resident() - before) / count


def _serve(orders: BinaryIO, answers: BinaryIO) -> None:
    """Read requests `NAME REPEAT NUMBER` and write doubles, until the port is closed."""
    while header := orders.read(4):
        name, repeat, number = orders.read(*struct.unpack(">I", header)).decode().split()
        if name == "threads":
            times = [_thread_bytes(int(repeat))]
        else:
            times = _times(name, int(repeat), int(number))
        answer = struct.pack(f">{len(times)}d", *times)
        answers.write(struct.pack(">I", len(answer)) + answer)
        answers.flush()


if __name__ == "__main__":
    _serve(sys.stdin.buffer, sys.stdout.buffer)
