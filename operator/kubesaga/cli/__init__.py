# SPDX-License-Identifier: Apache-2.0
"""The command line: one file a command, what they print, and the world without a cluster that `run` works in.

Belongs here: options, reading files, progress on a terminal, exit statuses, the wiring of `run`.
Does not belong here: deciding anything about a run (engine), carrying activities out (executors).
A command imports what it needs when it is called: `kubesaga version` must not pay for a Kubernetes client.
"""
