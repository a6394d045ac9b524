# SPDX-License-Identifier: Apache-2.0
"""An evaluator that only follows paths (`workflow.agent`), for tests that need no CEL and no process."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from kubesaga.engine.language.expressions import ExpressionError


class PathEvaluator:
    """Evaluates dotted paths, `true` and `false`; anything else is an error of the test."""

    def evaluate(self, expression: str, scope: Mapping[str, Any]) -> Any:
        """Return the value at a path. Raises ExpressionError where there is none."""
        if expression in ("true", "false"):
            return expression == "true"
        value: Any = scope
        for name in expression.split("."):
            if not isinstance(value, Mapping) or name not in value:
                raise ExpressionError(expression, f"{expression}: no such key")
            value = value[name]
        return value

    def check(self, expression: str, roots: Collection[str]) -> str | None:  # noqa: ARG002 - see Evaluator
        """Find nothing wrong."""
        return None
