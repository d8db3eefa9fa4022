"""Predicts the conversion of an object to Erlang and back, by docs/guide/types.md and not by the code.

Runs in the namespace of build.py; the suite calls the functions through a context. `plan` builds
the object of a program and predicts both conversions, `built` returns the object, and `verdict`
compares the object that has come back. An Erlang form is a tuple of a kind and a value; two forms
are equal if the terms are.
"""

import gc
from contextlib import contextmanager
from itertools import count

_MAX_DEPTH = 1000
# The depth at which an argument begins: the list of arguments does not count.
_AROUND = 0
_serial = count()

Form = tuple[Any, ...]


class Unconvertible(Exception):
    """An object has no form on the other side; the argument is the reason in docs/guide/types.md."""


@contextmanager
def _deep() -> Iterator[None]:
    """Raise the recursion limit for this file; the code under test has Python's default."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def _form(item: Any, path: set[int]) -> Form:
    """The Erlang form of an object, found without a call of its methods.

    `path` has the addresses of the containers around the object.
    """
    kind = type(item)
    if issubclass(kind, bool) or item is None:
        return ("atom", {True: "true", False: "false", None: "none"}[item])
    if issubclass(kind, str):
        try:
            return ("binary", str.encode(item))
        except UnicodeEncodeError:
            raise Unconvertible("not_unicode") from None
    if issubclass(kind, int):
        if int.bit_length(item) > _MAX_BITS:
            raise Unconvertible("too_large")
        return ("integer", int.__int__(item))
    if issubclass(kind, float):
        return _float_form(float.__float__(item))
    if issubclass(kind, bytes):
        return ("binary", bytes.__getitem__(item, slice(None)))
    if issubclass(kind, bytearray):
        return ("binary", bytes(bytearray.__getitem__(item, slice(None))))
    if issubclass(kind, memoryview):
        return ("binary", item.tobytes())
    if issubclass(kind, (list, tuple, dict, set, frozenset)):
        if id(item) in path:
            raise Unconvertible("cycle")
        if len(path) >= _MAX_DEPTH:
            raise Unconvertible("too_deep")
        path.add(id(item))
        form = _container_form(item, kind, path)
        path.remove(id(item))
        return form
    # Each conversion makes a new handle, so no two are equal.
    return ("handle", next(_serial), item)


def _float_form(number: float) -> Form:
    """A float, or the atom for one that Erlang does not have."""
    if math.isnan(number):
        return ("atom", "nan")
    if math.isinf(number):
        return ("atom", "infinity" if number > 0 else "neg_infinity")
    return ("float", struct.pack("d", number))


def _container_form(item: Any, kind: type, path: set[int]) -> Form:
    """The Erlang form of a container."""
    if issubclass(kind, dict):
        pairs = [(_form(key, path), _form(value, path)) for key, value in dict.items(item)]
        if len({_key(key) for key, _ in pairs}) < len(pairs):
            raise Unconvertible("key_collision")
        return ("map", pairs)
    for base, name in ((list, "list"), (tuple, "tuple"), (set, "list"), (frozenset, "list")):
        if issubclass(kind, base):
            return (name, [_form(inner, path) for inner in base.__iter__(item)])
    raise AssertionError(kind)


def _key(form: Form) -> Form:
    """A form as a hashable value, equal for forms that are the same key in Erlang."""
    kind, value = form[0], form[1]
    if kind == "map":
        return (kind, frozenset((_key(k), _key(v)) for k, v in value))
    if kind in ("list", "tuple"):
        return (kind, tuple(_key(inner) for inner in value))
    return form[:2]


def _back(form: Form, errors: set[str], depth: int = _AROUND) -> Any:
    """The Python object of an Erlang form; adds the reasons to `errors` if there is none."""
    kind, value = form[0], form[1]
    if kind == "atom":
        return {"true": True, "false": False, "none": None}.get(value, value)
    if kind == "binary":
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    if kind == "float":
        return struct.unpack("d", value)[0]
    if kind == "handle":
        return form[2]
    if kind == "integer":
        return value
    if depth >= _MAX_DEPTH:
        errors.add("too_deep")
        return None
    if kind == "map":
        return _back_dict(value, errors, depth)
    items = [_back(inner, errors, depth + 1) for inner in value]
    return items if kind == "list" else tuple(items)


def _back_dict(pairs: list[tuple[Form, Form]], errors: set[str], depth: int) -> dict[Any, Any]:
    """A map as a dict; only methods of its keys are called."""
    found: dict[Any, Any] = {}
    for key_form, value_form in pairs:
        key = _back(key_form, errors, depth + 1)
        value = _back(value_form, errors, depth + 1)
        try:
            hash(key)
        except Exception:
            errors.add("unhashable_key")
            continue
        try:
            if key in found:
                errors.add("key_collision")
            found[key] = value
        except Exception as error:
            errors.add(type(error).__name__)
    return found


def _exact(item: Any) -> Form:
    """An object as a value that tells types, signs and identities apart, where `==` does not."""
    kind = type(item)
    if kind is dict:
        return ("dict", frozenset((_exact(k), _exact(v)) for k, v in item.items()))
    if kind in (list, tuple):
        return (kind.__name__, *(_exact(inner) for inner in item))
    if kind is float:
        return ("float", struct.pack("d", item))
    if kind in (bool, int, str, bytes, type(None)):
        return (kind.__name__, item)
    return ("object", id(item))


def plan(program: bytes | str) -> tuple[str, list[str]]:
    """Build the object of a program.

    Return the error of the conversion to Erlang, or "ok", and the possible errors of the way back.
    """
    if isinstance(program, str):
        program = program.encode()
    _State.armed = False
    with _deep():
        _State.last = _Machine(program).run()
        _State.armed = True
        try:
            form = _form(_State.last, set())
        except Unconvertible as error:
            return (error.args[0], [])
        except ValueError:
            return ("ValueError", [])
        errors: set[str] = set()
        wanted = _back(form, errors)
        if not errors:
            _State.wanted = _exact(wanted)
        return ("ok", sorted(errors))


def built() -> Any:
    """The object of the last program."""
    return _State.last


def verdict(got: Any) -> str:
    """Return "ok" if this is the object that must have come back, or a text."""
    with _deep():
        return "ok" if _exact(got) == _State.wanted else f"not what went, but a {type(got)}"


def forget() -> None:
    """Drop the objects of the last program, also those in cycles."""
    _State.armed = False
    _State.last = _State.wanted = None
    gc.collect()


def alive() -> int:
    """How many instances of _Odd are alive."""
    return _State.alive
