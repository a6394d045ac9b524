# SPDX-License-Identifier: Apache-2.0
"""All tests, in two halves side by side: those on a cluster mostly wait, the others mostly compute. The faults, on a cluster
too, come after the others, so that both halves take about as long.

What the first half prints is shown as it comes, what the second prints once the first is done. Arguments go to both.
Exit status: that of the half that failed, 0 if none did.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FIRST = ("tests/cluster",)
SECOND = ("tests/unit", "tests/component", "tests/faults")
_NOTHING_TO_RUN = 5


def main(words: list[str]) -> int:
    """Run both halves; return the worse exit status."""
    pytest = [sys.executable, "-m", "pytest", *words]
    with tempfile.TemporaryFile("w+") as output:
        command = [*pytest, "-p", "no:cacheprovider", *SECOND]
        # Its own cache would be written by both at once.
        other = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        try:
            first = subprocess.run([*pytest, *FIRST], cwd=ROOT, check=False).returncode
            second = other.wait()
        finally:
            other.kill()
        output.seek(0)
        print(f"\n{', '.join(SECOND)}, which ran meanwhile:\n", flush=True)
        for line in output:
            print(line, end="")
    failed = [status for status in (first, second) if status not in (0, _NOTHING_TO_RUN)]
    return failed[0] if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
