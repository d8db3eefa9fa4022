"""Runs statements, and returns the value of the last one if that is an expression.

Loaded by py_run.erl at its first call, as the module ``_erlang_run``; ``run`` is called on workers, in
the middle of the job. py_run.erl removes the frames of this file from the tracebacks.
"""

import ast
import functools
import inspect
import symtable
from types import CodeType

ABSENT = object()
#: Sources whose code is kept.
KEPT = 128


class Unit:
    """The code of one source: the statements, the last expression, the global names that it reads."""

    def __init__(self, source: str, file: str, line: int):
        # Empty lines before the source give each line the number that it has in the file.
        text = "\n" * (line - 1) + source
        tree = compile(text, file, "exec", ast.PyCF_ONLY_AST, True)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        flags = self.flags_of(tree)
        self.body = compile(tree, file, "exec", flags, True)
        self.last: CodeType | None = None
        if last is not None:
            self.last = compile(ast.Expression(last.value), file, "eval", flags, True)
        updated = {
            node.target.id
            for node in ast.walk(tree)
            if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name)
        }
        self.names = updated.union(names_of(symtable.symtable(text, file, "exec"), True))

    @staticmethod
    def flags_of(tree: ast.Module) -> int:
        """The flags of the future statements: they hold for the last expression too."""
        import __future__

        return functools.reduce(
            lambda flags, name: flags | getattr(__future__, name).compiler_flag,
            [
                alias.name
                for node in tree.body
                if isinstance(node, ast.ImportFrom) and node.module == "__future__"
                for alias in node.names
                if alias.name in __future__.all_feature_names
            ],
            0,
        )


def names_of(table: symtable.SymbolTable, is_top: bool):
    """The names that code of this table and of those in it looks up among the globals."""
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (is_top or symbol.is_global()):
            yield symbol.get_name()
    for child in table.get_children():
        yield from names_of(child, False)


unit = functools.lru_cache(KEPT)(Unit)


def run(source: str, file: str, line: int, variables: dict, offered: dict, namespace: dict):
    """Returns the value of the last expression, or ``None``.

    ``variables`` are globals for the length of the run, and those of ``offered`` that the code reads.
    """
    code = unit(source, file, line)
    given = {name: value for name, value in offered.items() if name in code.names}
    given.update(variables)
    before = {name: namespace.get(name, ABSENT) for name in given}
    result = None
    try:
        namespace.update(given)
        exec(code.body, namespace)
        if code.last is not None:
            result = eval(code.last, namespace)
        if inspect.iscoroutine(result):
            result = awaited(result, namespace, given, before)
            given = {}
        return result
    finally:
        put_back(namespace, given, before)


async def awaited(coroutine, namespace: dict, given: dict, before: dict):
    """Returns the result of ``coroutine``, for which the variables stay."""
    try:
        return await coroutine
    finally:
        put_back(namespace, given, before)


def put_back(namespace: dict, given: dict, before: dict) -> None:
    """Gives the variables the values that they had ``before``, except those that were assigned anew."""
    for name, value in given.items():
        found = namespace.get(name, ABSENT)
        if found is not value and found is not ABSENT:
            continue
        if before[name] is not ABSENT:
            namespace[name] = before[name]
        elif found is value:
            del namespace[name]
