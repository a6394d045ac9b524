# SPDX-License-Identifier: Apache-2.0
"""The fault harness: the real operator, a real API server, and a proxy between them that breaks things on purpose.

Here belong the proxy, what it can do, which faults are played, what is recorded and what is checked on the record. What
the operator does when nothing is broken belongs to tests/cluster, and what needs no cluster to tests/component.
"""
