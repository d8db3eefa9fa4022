"""The alternative to the NIF: a python3 behind a port, which reads and writes external terms.

`make bench` runs this program, and shows its figures beside those of `erlang_python`.
"""

import importlib
import struct
import sys
from typing import BinaryIO

import erlang  # erlang_py, see requirements-bench.txt


def _text(term: object) -> str:
    """Return the text of an atom or a binary."""
    value = getattr(term, "value", term)
    return value.decode() if isinstance(value, bytes) else str(value)


def _answer(order: tuple) -> object:
    """Return the result of {eval, Code}, {call, Module, Function, Args} or {same, Value}."""
    kind = _text(order[0])
    if kind == "eval":
        return eval(_text(order[1]))
    if kind == "call":
        function = getattr(importlib.import_module(_text(order[1])), _text(order[2]))
        return function(*order[3])
    if kind == "same":
        return order[1]
    raise ValueError(order)


def _serve(orders: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until the port is closed; a packet begins with four bytes of length."""
    while header := orders.read(4):
        packet = orders.read(*struct.unpack(">I", header))
        answer = erlang.term_to_binary(_answer(erlang.binary_to_term(packet)))
        answers.write(struct.pack(">I", len(answer)) + answer)
        answers.flush()


if __name__ == "__main__":
    _serve(sys.stdin.buffer, sys.stdout.buffer)
