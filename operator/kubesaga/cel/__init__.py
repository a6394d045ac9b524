# SPDX-License-Identifier: Apache-2.0
"""Carrying out CEL expressions that strangers wrote, in processes that can be killed.

Belongs here: the child process (`worker`), its life and its wire (`child`), the pool that is the engine's `Evaluator`
(`pool`), the library's messages in plain words (`sentences`). Does not belong here: what `${…}` means
(engine.language.expressions), which variables a field may use (engine), any other evaluator.
"""
