# SPDX-License-Identifier: Apache-2.0
"""Carry out ONE attempt of one activity, and say what is seen of it: pods, in-process handlers, HTTP requests.

Belongs here: starting, observing, stopping and releasing attempts, idempotent by the attempt's identity.
Does not belong here: what to do next, knowledge of other activities, writing a run's status.
"""
