# SPDX-License-Identifier: Apache-2.0
"""`python -m kubesaga`."""

from kubesaga.cli.app import main

if __name__ == "__main__":
    main(prog_name="kubesaga")
