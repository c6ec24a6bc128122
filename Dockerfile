# syntax=docker/dockerfile:1
# One slim image per need, from the wheel and the locked dependencies:
#   core    relay, projector, sealer, migrate, token, audit
#   api     the HTTP service, without kernels
#   worker  the kernel worker and what notebooks import
#   worker-r  the same, with R

ARG PYTHON=3.13-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1
WORKDIR /src
COPY requirements/setup.txt requirements/
RUN python -m pip install --no-deps --require-hashes -r requirements/setup.txt
COPY requirements/core.txt requirements/
RUN python -m venv --without-pip /opt/nbledger \
    && uv pip install --python /opt/nbledger/bin/python --require-hashes -r requirements/core.txt

FROM build AS wheel
COPY pyproject.toml README.md LICENSE ./
COPY domain domain
COPY infrastructure infrastructure
COPY application application
COPY projections projections
COPY audit audit
COPY workers workers
COPY http http
COPY cli cli
COPY schemas schemas
COPY client client
COPY sdk sdk
RUN python -m hatchling build --target wheel --directory /wheels

FROM build AS build-core
RUN --mount=from=wheel,source=/wheels,target=/wheels \
    uv pip install --python /opt/nbledger/bin/python --no-deps --offline /wheels/*.whl

FROM build AS build-api
COPY requirements/api.txt requirements/
RUN uv pip install --python /opt/nbledger/bin/python --require-hashes -r requirements/api.txt
RUN --mount=from=wheel,source=/wheels,target=/wheels \
    uv pip install --python /opt/nbledger/bin/python --no-deps --offline /wheels/*.whl

FROM build AS build-worker
COPY requirements/worker.txt requirements/
RUN uv pip install --python /opt/nbledger/bin/python --require-hashes -r requirements/worker.txt
RUN --mount=from=wheel,source=/wheels,target=/wheels \
    uv pip install --python /opt/nbledger/bin/python --no-deps --offline /wheels/*.whl

FROM python:${PYTHON} AS runtime
ENV PATH=/opt/nbledger/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# A volume takes over the owner of the folder that it is mounted on, so that has to exist here.
RUN useradd --uid 10001 --create-home --home-dir /home/nbledger --shell /usr/sbin/nologin nbledger \
    && install -d -o nbledger -g nbledger /var/lib/nbledger /var/lib/nbledger/artifacts \
    && install -d -o nbledger -g nbledger -m 700 /var/lib/nbledger/sealer
WORKDIR /home/nbledger
USER nbledger
ENTRYPOINT ["nbledger"]
CMD ["--help"]

FROM runtime AS core
COPY --from=build-core /opt/nbledger /opt/nbledger

FROM runtime AS api
COPY --from=build-api /opt/nbledger /opt/nbledger
EXPOSE 8080
CMD ["api"]

FROM runtime AS worker
COPY --from=build-worker /opt/nbledger /opt/nbledger
CMD ["worker"]

FROM worker AS worker-r
USER root
RUN apt-get update \
    && apt-get install -y --no-install-recommends r-base-core r-cran-irkernel \
    && rm -rf /var/lib/apt/lists/*
USER nbledger
