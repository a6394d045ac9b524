# SPDX-License-Identifier: Apache-2.0
"""Who may begin, and who waits: the ledger of slots, derived from the live runs, and what guards calls.

Belongs here: the queue of a scope and its order, keys in conflict, breakers, bulkheads and rates as pure state.
Does not belong here: what a run wants (engine.slots, engine.guarding), keeping a guard's state (controller).
"""
