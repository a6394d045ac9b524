# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, said to the user in one line."""


class ClusterError(Exception):
    """A step failed; the message says which and where to look. The tool ends with `exit_status`."""

    exit_status = 1


class NoClusterPossible(ClusterError):
    """Nothing that this machine has can make a cluster; callers may skip what needs one."""

    exit_status = 3
