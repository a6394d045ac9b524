# SPDX-License-Identifier: Apache-2.0
"""The contract on the wire: pydantic models of the custom resources, names, reasons, CRD generation.

Belongs here: values, their parsing and checking one field at a time, deterministic names.
Does not belong here: rules that need the whole document (engine.validation.workflow), decisions, I/O, clocks.
"""
