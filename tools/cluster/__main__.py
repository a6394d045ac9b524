# SPDX-License-Identifier: Apache-2.0
"""`python3 tools/cluster …`: puts the repository on the import path, so that this folder is the package tools.cluster."""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])

from tools.cluster.app import main  # noqa: E402  (the import needs the path set above)

sys.exit(main(sys.argv[1:]))
