# SPDX-License-Identifier: Apache-2.0
"""What the operator tells of itself: metrics and logs.

Belongs here: every series in one table, log formats and the context that log lines carry.
Does not belong here: deciding what is worth telling (that is a Note of the engine), serving HTTP.
"""
