"""The standard output and error of Python code that runs for Erlang.

An ``Output`` is ``sys.stdout`` or ``sys.stderr`` from the start of the interpreter on. It passes text to
the engine, which finds the job that the code belongs to. Code of a program calls it, on any thread.
"""

import functools
import io


class Output(io.TextIOBase):
    """A text stream to the group leader of the process that the code runs for."""

    encoding = "utf-8"
    errors = "backslashreplace"
    mode = "w"
    line_buffering = True
    write_through = False

    def __init__(self, stream: int, name: str, original: io.TextIOBase):
        """Called by the engine, once for each stream; ``original`` is the one that Python has made."""
        self.name = name
        self._original = original
        # Faster than a method: ``print`` calls it twice.
        self.write = functools.partial(_write, stream, original)
        self.buffer = OutputBytes(self, stream, original)

    def flush(self) -> None:
        """Writes the line that has not ended."""
        _flush(self._original)

    def writable(self) -> bool:
        """Always true."""
        return True

    def isatty(self) -> bool:
        """Whether text goes to a terminal, which it does only past Erlang."""
        return _inherits() and self._original.isatty()

    def fileno(self) -> int:
        """The descriptor of the process, for programs that are started with it."""
        return self._original.fileno()

    def close(self) -> None:
        """Writes the line that has not ended, and closes nothing: other code has the same stream."""
        self.flush()

    def reconfigure(self, **_options: object) -> None:
        """Does nothing: Erlang chooses the encoding."""

    def __repr__(self) -> str:
        """Shows the name."""
        return f"<erlang.Output name={self.name!r}>"


class OutputBytes(io.BufferedIOBase):
    """The bytes of an ``Output``: UTF-8. Bytes that are no text are escaped."""

    def __init__(self, text: Output, stream: int, original: io.TextIOBase):
        """Called by ``Output``."""
        self._text = text
        self._write = functools.partial(_write_bytes, stream, original)

    def write(self, data: bytes) -> int:
        """Writes the text of the bytes; that of a character that has not ended waits for the rest."""
        with memoryview(data) as view:
            return self._write(view.tobytes())

    def flush(self) -> None:
        """Writes the line that has not ended."""
        self._text.flush()

    def close(self) -> None:
        """Closes nothing: other code has the same stream."""
        self.flush()

    def writable(self) -> bool:
        """Always true."""
        return True

    def fileno(self) -> int:
        """The descriptor of the process."""
        return self._text.fileno()

    @property
    def raw(self) -> "OutputBytes":
        """The stream without a buffer, which this one is."""
        return self
