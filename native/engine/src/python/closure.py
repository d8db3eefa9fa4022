"""Compiles an expression with local variables as a function of them.

So every nested scope of the expression sees the variables, but no other function of the context
and no task that runs while the value of the expression is awaited. Called by ``code_cache.rs`` on
workers, attached; runs no code of a program.
"""

import _ast
import types


def compile_closure(source: str, names: list, file: str) -> types.CodeType | None:
    """Returns the code of a function of ``names``; ``None`` if a name cannot be a parameter."""
    expression = compile(source, file, "eval", _ast.PyCF_ONLY_AST, True)
    body = expression.body
    position = {
        field: getattr(body, field)
        for field in ("lineno", "col_offset", "end_lineno", "end_col_offset")
    }
    arguments = _ast.arguments(
        posonlyargs=[],
        args=[_ast.arg(name, **position) for name in names],
        kwonlyargs=[],
        kw_defaults=[],
        defaults=[],
    )
    function = _ast.Expression(_ast.Lambda(arguments, body, **position))
    try:
        code = compile(function, file, "eval", 0, True)
    except (SyntaxError, ValueError):
        return None
    found = next(part for part in code.co_consts if isinstance(part, types.CodeType))
    return found.replace(co_name="<module>", co_qualname="<module>")
