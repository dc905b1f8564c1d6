# Longshore as an image: docs/operations.md, "As an image", says how to build, pin and run it.
#
#     docker build -t longshore .
#     docker run --rm --read-only -v "$PWD:/project:ro" -v /var/run/docker.sock:/var/run/docker.sock \
#         --group-add "$(stat -c %g /var/run/docker.sock)" \
#         -e AWS_ACCESS_KEY_ID -e AWS_SECRET_ACCESS_KEY -e AWS_REGION \
#         longshore import --store s3://bucket/cache --scope main
#
# A tag moves. For images that can be made again, pin the base by its digest:
#     --build-arg BASE=python:3.13-slim@sha256:…
# which is what this prints:
#     docker buildx imagetools inspect python:3.13-slim --format '{{.Manifest.Digest}}'
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
# Where packages come from, if not from PyPI.
ARG PIP_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_NO_INDEX
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements-build.lock requirements.lock ./
# Wheels only, all of them by hash: nothing is compiled here, so no compiler is needed. Not kept are
# uv, which builds nothing here, and the descriptions of AWS's services but for those in use: s3 and
# sts by longshore, the others by botocore itself for credentials. KMS is asked by S3, not from here.
# zstandard's second backend is for PyPy.
RUN pip install --target /build --require-hashes --no-deps --only-binary :all: -r requirements-build.lock \
    && rm -r /build/bin \
    && python -m venv --without-pip /opt/longshore \
    && pip --python /opt/longshore \
        install --require-hashes --no-deps --only-binary :all: -r requirements.lock \
    && cd /opt/longshore/lib/python3*/site-packages \
    && find botocore/data -mindepth 1 -maxdepth 1 -type d \
        ! -name s3 ! -name sts ! -name sso ! -name sso-oidc ! -name signin -exec rm -r {} + \
    && rm -rf boto3/data boto3/examples zstandard/_cffi.* zstandard/backend_cffi.py \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash .
COPY pyproject.toml README.md LICENSE ./
COPY agent agent
RUN PYTHONPATH=/build python -m hatchling build --target wheel --directory /dist \
    && pip --python /opt/longshore install --no-deps --no-index /dist/*.whl \
    && python -m compileall -q --invalidation-mode unchecked-hash \
        /opt/longshore/lib/python3*/site-packages/longshore \
    && /opt/longshore/bin/longshore --version

FROM ${BASE}
COPY --from=build /opt/longshore /opt/longshore
# Official images have no bytecode of the standard library, and nobody can write it later on: each
# start would compile what it imports. The sidecar's socket is in /run/longshore.
RUN lib=$(/opt/longshore/bin/python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))') \
    && rm -rf "$lib/ensurepip" "$lib"/site-packages/pip "$lib"/site-packages/pip-* /usr/local/bin/pip* \
    && /opt/longshore/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash \
        -x '/(test|tests|idlelib|lib2to3|tkinter|turtledemo|pydoc_data|site-packages|dist-packages)/' "$lib" \
    && echo 'longshore:x:10001:10001::/home/longshore:/bin/false' >> /etc/passwd \
    && echo 'longshore:x:10001:' >> /etc/group \
    && mkdir -p /home/longshore /project /run/longshore \
    && chown 10001:10001 /home/longshore /run/longshore
# What asks for a temporary folder gets one in memory: that can be written with --read-only, too.
ENV PATH=/opt/longshore/bin:$PATH HOME=/home/longshore TMPDIR=/dev/shm \
    PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# So that the socket can be made with --read-only; a named volume here shares it.
VOLUME /run/longshore
USER 10001:10001
WORKDIR /project
# Commands that end are healthy as long as they run; the sidecar is if it answers.
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD tr '\0' '\n' </proc/1/cmdline | grep -qx serve || exit 0; longshore wait --live --timeout 5s || exit 1
ENTRYPOINT ["longshore"]
ARG BASE
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="longshore" \
    org.opencontainers.image.description="Keeps the images of a project's Docker services in S3, so that throw-away build machines start warm." \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.base.name="${BASE}"
