# SPDX-License-Identifier: Apache-2.0
"""What makes WorkflowRuns: events that match and ticks that are due.

Belongs here: whether a trigger fits an event, and why not (`matching`); the one run that an event or a tick gets, and its
name (`runs`, `names`); what an event starts of a Workflow as it is stored (`workflows`); which ticks are due and what the live runs make of them (`schedules`); events
(`events`); and the work of the clock (`ticker`). All but `ticker` is pure: what time it is, is an argument.
Does not belong here: how events come in (gateway), the grammar of conditions and cron, which the engine checks before
anything is stored (engine.language.conditions, engine.language.cron), what a run does (engine).
"""
