# SPDX-License-Identifier: Apache-2.0
"""What stands before calls, kept: circuit breakers, bulkheads and rate limits with their state, as it is and as it is recorded.

Belongs here: one guard in memory (`guard`), all of them (`all`), what of them stands in a status (`record`) and its writing, once a
second at most (`writer`). Does not belong here: when a breaker opens and what a rate allows (engine.admission).
"""
