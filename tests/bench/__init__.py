# SPDX-License-Identifier: Apache-2.0
"""The benchmark: `python -m tests.bench`. The operator as a process on the real API server, beside a raw client that makes
the same writes; docs/performance.md says what is measured and how.

Here belong loads, meters and the report. No gate: the exit status is 0 unless something broke. What must hold at any speed is
a test, and stands in tests/.
"""
