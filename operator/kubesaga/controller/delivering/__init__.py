# SPDX-License-Identifier: Apache-2.0
"""Events for live runs, between the pass that brings one and the passes that take it.

Belongs here: which runs are live (`census`) and what they wait for (`listeners`), and the offers and answers (`mailbox`).
Does not belong here: whether an event is for a run, and what taking it means (engine.messengers, engine.obeying).
"""
