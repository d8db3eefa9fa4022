"""Makes a venv with packages; run by py_env.erl, with the Python that the venv is for.

``py_env.py TARGET HASH UV KIND ARGUMENT...``: UV is the path of uv, or empty; KIND is ``list`` with
requirements, or ``file`` or ``pyproject`` with a path. Ends as soon as its standard input does: the
caller is gone then. Prints what the installer prints, and one sentence when it fails.

Builds beside TARGET, and renames at the end, so TARGET is whole or is not there. A lock that the
kernel releases, whatever ends its holder, leaves one builder for a TARGET.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

STAMP = "erlang_python.stamp"

#: The installer that runs, for the thread that kills it.
running: list[subprocess.Popen] = []
#: Held while an installer starts or is removed: `running` and the processes do not agree then.
running_changes = threading.Lock()


def is_made(target: Path, content: str) -> bool:
    """Whether TARGET is whole, and has the packages that are wanted."""
    stamp = target / STAMP
    return stamp.is_file() and stamp.read_text() == content and (target / "bin/python3").exists()


def end_with_caller() -> None:
    """Waits for the end of the standard input, and ends the process and its installer."""
    while os.read(0, 4096):
        pass
    with running_changes:
        for process in running:
            # The group is gone if the installer has just ended.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        os._exit(1)


def run(command: list[str], folder: Path) -> None:
    """Runs an installer; its process group is its own, so that all of it can be killed."""
    env = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    # The variables would point the installer at another Python, or at packages that are no part of the venv.
    for name in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_USER", "PIP_PREFIX"):
        env.pop(name, None)
    # The output is copied: an installer with the output of this process would keep the caller waiting
    # after the end of this process.
    with running_changes:
        process = subprocess.Popen(command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, start_new_session=True)
        running.append(process)
    for line in process.stdout:
        sys.stdout.buffer.write(line)
        sys.stdout.buffer.flush()
    status = process.wait()
    with running_changes:
        running.remove(process)
    if status != 0:
        sys.exit(f"{' '.join(command[:4])} ... has ended with status {status}")


def requirements(kind: str, arguments: list[str]) -> list[str] | None:
    """Returns the requirements, or None if the installer reads them from a file."""
    if kind == "list":
        return arguments
    if kind == "file":
        return None
    with open(arguments[0], "rb") as file:
        return tomllib.load(file)["project"].get("dependencies", [])


def install(new: Path, uv: str, kind: str, arguments: list[str]) -> None:
    """Makes the venv, and installs the packages into it."""
    python = str(new / "bin/python3")
    if uv:
        run([uv, "venv", "--no-project", "--python", sys.executable, str(new)], new.parent)
        command = [uv, "pip", "install", "--python", python]
    else:
        run([sys.executable, "-I", "-m", "venv", str(new)], new.parent)
        command = [python, "-I", "-m", "pip", "install", "--no-input", "--disable-pip-version-check",
                   "--progress-bar", "off"]
    wanted = requirements(kind, arguments)
    if wanted is None:
        run([*command, "-r", arguments[0]], Path(arguments[0]).parent)
    elif wanted:
        (new / "requirements.txt").write_text("".join(line + "\n" for line in wanted), encoding="utf-8")
        run([*command, "-r", str(new / "requirements.txt")], Path.cwd() if kind == "list" else Path(arguments[0]).parent)


def rename_in_scripts(new: Path, target: Path) -> None:
    """Replaces the path of the venv in its scripts, whose first line has it."""
    for script in (new / "bin").iterdir():
        if script.is_symlink() or not script.is_file():
            continue
        content = script.read_bytes()
        if b"\0" not in content and os.fsencode(new) in content:
            script.write_bytes(content.replace(os.fsencode(new), os.fsencode(target)))


def make(target: Path, content: str, uv: str, kind: str, arguments: list[str]) -> None:
    """Makes TARGET, unless another process has made it meanwhile."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{target}.lock", "a", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waits for another process that makes {target}", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        if is_made(target, content):
            return
        # The builders of these were killed: only the holder of the lock builds.
        for left in target.parent.glob(f"{target.name}.new-*"):
            shutil.rmtree(left)
        new = Path(f"{target}.new-{os.getpid()}")
        try:
            install(new, uv, kind, arguments)
            rename_in_scripts(new, target)
            (new / STAMP).write_text(content)
            if target.exists():
                # The requirements, or the Python, have changed.
                target.rename(new / "old")
            new.rename(target)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        shutil.rmtree(target / "old", ignore_errors=True)


def main() -> None:
    """Reads the arguments, and turns what goes wrong into one sentence."""
    target, content, uv, kind, *arguments = sys.argv[1:]
    threading.Thread(target=end_with_caller, daemon=True).start()
    try:
        make(Path(target), content, uv, kind, arguments)
    except OSError as error:
        sys.exit(str(error))
    except (tomllib.TOMLDecodeError, KeyError, UnicodeDecodeError, TypeError, AttributeError) as error:
        sys.exit(f"{arguments[0]} is no pyproject.toml with a list of dependencies: {error!r}")


main()
