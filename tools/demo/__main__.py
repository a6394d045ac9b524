# SPDX-License-Identifier: Apache-2.0
"""`make demo`: a ticket through the high-priority-ticket Workflow, on a real Kubernetes, with the operator in a pod.

Every step prints the command that a person would type. It may be run again and again.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from demo import steps
from demo.shell import DemoFailed

if __name__ == "__main__":
    try:
        steps.play()
    except DemoFailed as error:
        print(f"\nmake demo: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
