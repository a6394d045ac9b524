# SPDX-License-Identifier: Apache-2.0
"""Shipped fakes: a clock, executors whose attempts you end by hand, builders. Users test their Workflows with them, and so do we.

Belongs here: stand-ins for the world outside. Does not belong here: anything that the operator runs.
"""
