"""An expression with local variables, as a function of them.

So every nested scope of the expression sees them, and nothing else does: no other function of the
context, and no task that runs while the value of the expression is awaited.
"""

import _ast
import types


def compile_closure(source: str, names: list, file: str) -> types.CodeType | None:
    """The code of a function of ``names``; ``None`` for names that no function can have."""
    expression = compile(source, file, "eval", _ast.PyCF_ONLY_AST, True)
    body = expression.body
    place = {
        field: getattr(body, field)
        for field in ("lineno", "col_offset", "end_lineno", "end_col_offset")
    }
    arguments = _ast.arguments(
        posonlyargs=[],
        args=[_ast.arg(name, **place) for name in names],
        kwonlyargs=[],
        kw_defaults=[],
        defaults=[],
    )
    function = _ast.Expression(_ast.Lambda(arguments, body, **place))
    try:
        code = compile(function, file, "eval", 0, True)
    except (SyntaxError, ValueError):
        return None
    found = next(part for part in code.co_consts if isinstance(part, types.CodeType))
    return found.replace(co_name="<module>", co_qualname="<module>")
