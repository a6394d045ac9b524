# SPDX-License-Identifier: Apache-2.0
"""As much of a terminal as progress uses: it keeps the lines, moves up, clears, and drops colours."""

from __future__ import annotations

import io
import re

_PART = re.compile(r"\x1b\[(\??[0-9;]*)([A-Za-z])|([^\x1b]+)")


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """Return what stands on the screen after everything that was written."""
        lines, row = [""], 0
        for number, command, text in _PART.findall(self.getvalue()):
            if command == "A":
                row -= int(number)
                assert row >= 0, "moved above the first line"
            elif command == "J":
                del lines[row:]
                lines.append("")
            elif text:
                for piece in re.split(r"(\n|\r)", text):
                    if piece == "\n":
                        row += 1
                        lines += [""] * (row + 1 - len(lines))
                    elif piece != "\r":
                        lines[row] += piece
        return lines if lines[-1] else lines[:-1]
