"""Compiles statements of which the last one may be an expression, whose value is wanted.

Called by ``code_cache.rs`` on workers, attached; runs no code of a program.
"""

import __future__
import _ast
import types

_FUTURE = sum(getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)


def compile_block(source: str, file: str) -> tuple[types.CodeType, types.CodeType | None]:
    """Returns the code of the statements, and that of the last one if it is an expression.

    Both keep their line numbers. The future statements of the block hold for the expression, too.
    """
    module = compile(source, file, "exec", _ast.PyCF_ONLY_AST, True)
    if not module.body or not isinstance(module.body[-1], _ast.Expr):
        return compile(module, file, "exec", 0, True), None
    last = module.body.pop()
    statements = compile(module, file, "exec", 0, True)
    expression = _ast.Expression(last.value)
    return statements, compile(expression, file, "eval", statements.co_flags & _FUTURE, True)
