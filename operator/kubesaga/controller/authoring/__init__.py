# SPDX-License-Identifier: Apache-2.0
"""What people write down, looked at when it changes: Workflows, Activities, WorkflowEventSources; what their status says.

Belongs here: one pass for each kind, and what these passes know together (event types, awaited events). Does not belong
here: whether a document is right (engine.validation), what a run works from (definitions).
"""
