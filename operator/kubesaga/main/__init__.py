# SPDX-License-Identifier: Apache-2.0
"""The composition root: the only reader of environment, clock and chance; it builds the objects and ties them together.

Belongs here: the process's clock and environment (process), the operator put together (controller).
Does not belong here: any decision, any rule, any I/O of its own.
"""
