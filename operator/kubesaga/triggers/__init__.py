# SPDX-License-Identifier: Apache-2.0
"""What makes WorkflowRuns: events that match, ticks that are due, and objects of the cluster that change.

Belongs here: events (`events`); whether a trigger fits one, and why not (`matching`); what an event causes of a Workflow
as it is stored (`causes`, `workflows`, `awaiting`); the one run that an event or a tick gets, and its name (`runs`, `names`), and its
making (`making`); which ticks are due and what the live runs make of them (`schedules`, `failures`); the work of the clock
(`ticker`); and objects of the cluster that are watched (`objects`). All but `making`, `ticker` and `objects` is pure: what time it is, is an argument.
Does not belong here: how events come in (gateway), the grammar of conditions and cron, which the engine checks before
anything is stored (engine.language.conditions, engine.language.cron), what a run does (engine).
"""
