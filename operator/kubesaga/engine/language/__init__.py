# SPDX-License-Identifier: Apache-2.0
"""What people write into fields, as such: CEL expressions, conditions, patterns, schemas and cron.

Belongs here: how they are read, and what they yield, with no knowledge of Workflows; nothing here imports the rest of the engine.
Does not belong here: which of them a field may hold, and what they may read (validation).
"""
