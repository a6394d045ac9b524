# SPDX-License-Identifier: Apache-2.0
# The operator's image: docker build --tag kubesaga:0.1.0 .
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
# First what seldom changes. Wheels only: a compiler would have no business here.
COPY requirements.lock ./
RUN python -m venv --without-pip /opt/kubesaga \
 && pip --python /opt/kubesaga/bin/python install --no-cache-dir --no-deps --only-binary :all: --requirement requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY operator ./operator
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist . \
 && pip --python /opt/kubesaga/bin/python install --no-cache-dir --no-deps --no-index /dist/*.whl \
 && pip --python /opt/kubesaga/bin/python check

FROM ${PYTHON_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Kubesaga" \
      org.opencontainers.image.description="Sagas for Kubernetes: the operator and its command line" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/kubesaga /opt/kubesaga
# The root file system is read-only in the cluster, so HOME is the one folder that is not. The user id has no entry in
# /etc/passwd, and may be another one (OpenShift): USER answers those who ask for its name.
ENV PATH=/opt/kubesaga/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    USER=kubesaga
WORKDIR /tmp
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["kubesaga"]
