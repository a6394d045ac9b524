# SPDX-License-Identifier: Apache-2.0
"""The imperative shell: watch -> queue -> load -> reconcile -> one status write -> effects -> announce -> wake.

Belongs here: the order of operations, the keyed queue and its timer wheel, loading, carrying out decisions, probes; in
`authoring` the same for what people write down, in `guards` what is kept of breakers and rates, in `delivering` events
on their way to live runs.
Does not belong here: any rule about what a run should do (engine), how an attempt is carried out (executors).
"""
