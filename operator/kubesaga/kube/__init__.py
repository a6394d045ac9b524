# SPDX-License-Identifier: Apache-2.0
"""The only way to the API server.

Belongs here: the connection, plain-dict verbs with typed errors, the memory of a watch, leader election, Kubernetes
Events, and the few objects whose protocol is subtle enough to have one home (a run's writes, revisions).
Does not belong here: decisions, knowledge of what an object means to a saga, Kopf.
"""
