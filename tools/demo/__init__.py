# SPDX-License-Identifier: Apache-2.0
"""The demonstration: brings everything up, runs one ticket through it, shows what happened. No part of the product."""
