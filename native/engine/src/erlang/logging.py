"""Log records of Python code, as events of Erlang's ``logger``.

The handler of the root logger passes a record to the engine, which finds the job that the code belongs to.
The level is that of the root logger, so a record below it costs what it costs in any Python.
"""

import logging


class Handler(logging.Handler):
    """Passes records on. Called by ``logging``, on any thread."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Passes a record on as the base class does, but without its lock: ``emit`` may wait for room."""
        passed = self.filter(record)
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return bool(passed)

    def emit(self, record: logging.LogRecord) -> None:
        """Passes one record on, with the traceback of its exception as a part of the text."""
        try:
            message = self.format(record)
            level = min(max(int(record.levelno), 0), 1000)
            place = str(record.pathname), max(int(record.lineno or 0), 0), str(record.funcName or "")
            _log(level, message, str(record.name), *place)
        except Exception:
            self.handleError(record)


_handler = Handler()
#: The level that the root logger had before it was configured here; ``None`` when it is not.
_before: int | None = None


def configure(level: int, captures_warnings: bool) -> None:
    """Sets the level of the root logger, and adds the handler; 0 removes it. Called by the engine."""
    global _before
    root = logging.getLogger()
    if level == 0:
        root.removeHandler(_handler)
        if _before is not None:
            root.setLevel(_before)
            _before = None
    else:
        if _before is None:
            _before = root.level
        root.setLevel(level)
        if _handler not in root.handlers:
            root.addHandler(_handler)
    logging.captureWarnings(captures_warnings and level != 0)
