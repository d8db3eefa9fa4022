"""A child process of a pool of ``erlang_python``: prepares Python, and serves the VM.

Started as ``python -P py_child.py LIBRARY`` with a port of the VM as the descriptors 3 and 4, from which
the configuration comes: a map in the external term format, after its length in four bytes.
"""

import contextlib
import fcntl
import os
import signal
import sys


def read_exactly(count: int) -> bytes:
    """Reads from the port; raises EOFError if the VM has gone."""
    found = b""
    while len(found) < count:
        part = os.read(3, count - len(found))
        if not part:
            raise EOFError("the VM has gone")
        found += part
    return found


def say(text: str) -> None:
    """Tells the VM why this process does not start."""
    data = text.encode(errors="replace")[:60000]
    # Fails if the VM has gone, or has no more use for this process.
    with contextlib.suppress(OSError):
        os.write(4, len(data).to_bytes(4, "big") + data)


def load(path: str) -> object:
    """Loads the extension module, which stands on no search path."""
    from importlib.machinery import ExtensionFileLoader
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("py_child", path, loader=ExtensionFileLoader("py_child", path))
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def limit(limits: dict) -> None:
    """Sets the limits of this process, which none of its children can raise."""
    import resource

    # A recursion of the engine's limit needs more than the usual 8 MiB: the stack grows as far as the
    # limit says, and at least 128 MiB of addresses are free for it.
    _, most = resource.getrlimit(resource.RLIMIT_STACK)
    wanted = 120 << 20
    if most == resource.RLIM_INFINITY or most > wanted:
        resource.setrlimit(resource.RLIMIT_STACK, (wanted, most))

    names = {
        "memory": resource.RLIMIT_AS,
        "cpu_seconds": resource.RLIMIT_CPU,
        "open_files": resource.RLIMIT_NOFILE,
        "file_size": resource.RLIMIT_FSIZE,
        "processes": resource.RLIMIT_NPROC,
    }
    for name, value in limits.items():
        # A second between the signal that says why and the one that kills.
        hard = value + 1 if name == "cpu_seconds" else value
        resource.setrlimit(names[name], (value, hard))


def prepare(config: dict) -> str | None:
    """Sets the search path, and runs the preload. Returns what has gone wrong, if something has."""
    sys.path[:] = dict.fromkeys(config["paths"] + sys.path)
    for number, item in enumerate(config["preload"], 1):
        try:
            if isinstance(item, str) and item.startswith("module:"):
                __import__(item.removeprefix("module:"))
            else:
                exec(compile(item.removeprefix("code:"), "<erlang>", "exec"), {"__name__": "__main__"})
        except BaseException:
            import traceback

            return f"item {number} of the option 'preload' has failed:\n{traceback.format_exc()}"
    return None


def own_paths(config: dict) -> list:
    """Returns what Python itself reads: its installation, its venv, and what is on its search path."""
    prefixes = [sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.dirname(sys.argv[0] or __file__)]
    paths = [path for path in prefixes + sys.path + config["paths"] if os.path.exists(path)]
    return [*dict.fromkeys(os.path.realpath(path) for path in paths)]


def on_interrupt(*_args: object) -> None:
    """Handles the signal of an interrupt: runs Python code, which raises the exception that is pending.

    So a sleep in C, which looks for signals only, ends as well.
    """


def main() -> None:
    """Serves the VM, and does not return."""
    for descriptor in (3, 4):
        fcntl.fcntl(descriptor, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    if sys.version_info < (3, 11) or sys.implementation.name != "cpython":
        say(f"{sys.executable} is {sys.version.split()[0]}; CPython 3.11 or newer is needed")
        sys.exit(1)
    try:
        native = load(sys.argv[1])
        config = native.decode(read_exactly(int.from_bytes(read_exactly(4), "big")))
        sys.argv[:] = [""]
        limit(config["limits"])
        signal.signal(signal.SIGURG, on_interrupt)
        sandbox, own = config.get("sandbox"), own_paths(config)
        native.run(config["address"], sandbox, own, config["settings"], lambda: prepare(config))
    except Exception as error:
        say(f"{type(error).__name__}: {error}")
        sys.exit(1)


main()
