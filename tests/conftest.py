# SPDX-License-Identifier: Apache-2.0
"""What holds for all tests: a busy machine makes property tests slow, not wrong."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("kubesaga", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kubesaga")
