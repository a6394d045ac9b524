# SPDX-License-Identifier: Apache-2.0
"""The functional core: from what is known and the time, what is to be recorded and done. Values in, values out.

Belongs here: `reconcile(snapshot, now) -> Decision` and what it is made of; and below it `language` (expressions, conditions,
schemas: nothing there knows of runs), beside it `validation` (rules over documents) and `admission` (who may begin).
Does not belong here: I/O, clocks, randomness, logging, `await`. What must be announced is a Note in the Decision.
"""
