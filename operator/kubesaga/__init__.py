# SPDX-License-Identifier: Apache-2.0
"""Kubesaga: sagas for Kubernetes. This module holds the names that the author of a handler imports, and nothing else."""

from kubesaga.executors.registry import Context, NotRetryable, activity

__version__ = "0.1.0"
__all__ = ["Context", "NotRetryable", "__version__", "activity"]
