# SPDX-License-Identifier: Apache-2.0
"""Objects of the cluster that start runs: WorkflowEventSources of type Kubernetes at work, in the leading operator.

Belongs here: the event that a change of an object is (`changes`), its way to its runs, in order and never dropped (`lanes`,
`teller`, `workflows`), the watch of one source (`watch`) and of all (`watches`). Does not belong here: what may stand in
such a source (api, engine.validation), how watches work (kube), what an event starts (the package above).
"""
