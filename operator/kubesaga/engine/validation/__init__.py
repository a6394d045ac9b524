# SPDX-License-Identifier: Apache-2.0
"""Whether documents may run: the rules over Workflows, Activities, event sources and runs, one module a subject.

Belongs here: what is wrong with a document, or probably not meant, each by the path of its field and with what to do.
`workflow` asks all of them. Does not belong here: the shape of documents (api), and what they mean (engine).
"""
