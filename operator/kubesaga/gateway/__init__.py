# SPDX-License-Identifier: Apache-2.0
"""The way in for events: deliveries over HTTP become WorkflowRuns. A process of its own that may do little else.

Belongs here: the server and what it refuses, proofs of who sends (secrets, signatures), reading a delivery as events,
making the runs that an event causes, once each.
Does not belong here: which trigger an event fits and what its run is given (a Matcher, plugged in by main), anything
about what becomes of a run, statuses, Kopf.
"""
