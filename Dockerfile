# Longshore as an image.
#
#     docker build -t longshore .
#     docker run --rm -v "$PWD:/project:ro" -v /var/run/docker.sock:/var/run/docker.sock \
#         --group-add "$(stat -c %g /var/run/docker.sock)" \
#         -e AWS_ACCESS_KEY_ID -e AWS_SECRET_ACCESS_KEY -e AWS_REGION \
#         longshore import --store s3://bucket/cache --scope main
#
# It runs as the user 10001; --group-add gives that user the group that owns the engine's socket.
# Where the socket is root's alone, as rootless engines have it, add `--user 0`. There is no git in
# the image: CI variables (`-e CI_…`) or --scope say which branch this is. A directory as the
# store has to be writable for 10001, or for the user that --user names.
#
# To pin the base: --build-arg BASE=python:3.13-slim@sha256:…, as this prints it:
#     docker buildx imagetools inspect python:3.13-slim --format '{{.Manifest.Digest}}'
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
# Where packages come from, if not from PyPI.
ARG PIP_INDEX_URL PIP_FIND_LINKS PIP_NO_INDEX
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements-build.lock requirements.lock ./
# Wheels only, all of them by hash: nothing is compiled here, so no compiler is needed.
RUN python -m venv /build \
    && /build/bin/pip install --require-hashes --no-deps --only-binary :all: -r requirements-build.lock \
    && python -m venv /opt/longshore \
    && /opt/longshore/bin/pip install --require-hashes --no-deps --only-binary :all: -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY agent agent
RUN /build/bin/python -m hatchling build --target wheel --directory /dist \
    && /opt/longshore/bin/pip install --no-deps --no-index /dist/*.whl \
    && /opt/longshore/bin/pip uninstall --yes pip

FROM ${BASE}
COPY --from=build /opt/longshore /opt/longshore
RUN echo 'longshore:x:10001:10001::/home/longshore:/bin/false' >> /etc/passwd \
    && echo 'longshore:x:10001:' >> /etc/group \
    && mkdir -p /home/longshore /project \
    && chown 10001:10001 /home/longshore
ENV PATH=/opt/longshore/bin:$PATH HOME=/home/longshore PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /project
ENTRYPOINT ["longshore"]
