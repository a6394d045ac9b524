# SPDX-License-Identifier: Apache-2.0
"""A Kubernetes cluster for development and tests, also on a machine without Docker.

`python3 tools/cluster up` leaves an administrator's kubeconfig at build/kubeconfig. Here belongs what chooses, builds, starts,
stops and feeds that cluster, with the standard library alone, so that it runs before anything of the project is installed.
What does not belong: anything about Kubesaga itself beyond putting its checkout into an image.
"""
