# The locked dependencies are a layer of their own: it is built anew only when the lock changes.
FROM python:3.11-alpine AS dependencies
# hadolint ignore=DL3018  # Alpine keeps one version of bash a release: a pinned one could not be had a month later
RUN apk add --no-cache bash
WORKDIR /opt/queuectl
COPY requirements.lock ./
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore --require-hashes -r requirements.lock

FROM dependencies AS build
ARG VERSION=0.1.0
COPY pyproject.toml README.md ./
COPY migrations migrations
COPY queuectl queuectl
# A VERSION that is not the program's own finds no wheel of that name, and the build ends here.
RUN pip wheel --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir /wheels . \
    && test -f "/wheels/queuectl-${VERSION}-py3-none-any.whl"

# Runs as root on purpose: the store is mounted in root's home (-v "$HOME/.queuectl:/root/.queuectl"), and a fixed
# other user could not write to the folder of whoever mounts it.
FROM dependencies
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="queuectl" \
      org.opencontainers.image.description="A background job queue for the command line" \
      org.opencontainers.image.version="${VERSION}"
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore --no-index --no-deps /wheels/*.whl \
    && rm -r /wheels
COPY demo.sh ./
# The same file as without this line, but named: demo.sh then keeps to it, and a mounted folder keeps what was run.
ENV QUEUECTL_DB_PATH=/root/.queuectl/queue.db
HEALTHCHECK --interval=30s --timeout=10s --start-period=5s CMD ["queuectl", "status", "--json"]
ENTRYPOINT ["queuectl"]
