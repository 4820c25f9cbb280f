# lungwatch: node, worker and every other command, as targets `cpu` and `gpu`; the viewer as `viewer`.

FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_INPUT=1
WORKDIR /src
RUN python -m venv /opt/lungwatch
ENV PATH=/opt/lungwatch/bin:$PATH
COPY requirements.lock ./
RUN pip install --require-hashes --no-deps --requirement requirements.lock
COPY pyproject.toml README.md ./
COPY migrations migrations
COPY model model
COPY dicom_node dicom_node
COPY worker worker
RUN pip install --no-deps --no-build-isolation .

FROM build AS build-gpu
# TensorFlow states which CUDA packages it works with; gigabytes, so their sums are not in the lock.
RUN pip freeze --exclude lungwatch >installed.txt \
    && pip install --constraint installed.txt 'tensorflow[and-cuda]'

FROM python:3.11-slim-bookworm AS base
RUN useradd --system --uid 10001 --user-group --home-dir /var/lib/lungwatch --create-home \
        --shell /usr/sbin/nologin lungwatch
ENV PATH=/opt/lungwatch/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TF_CPP_MIN_LOG_LEVEL=2 \
    LUNGWATCH_DATA_DIR=/var/lib/lungwatch
USER lungwatch
WORKDIR /var/lib/lungwatch
VOLUME /var/lib/lungwatch
EXPOSE 11112
ENTRYPOINT ["lungwatch"]
CMD ["--help"]

FROM base AS gpu
COPY --from=build-gpu /opt/lungwatch /opt/lungwatch

FROM base AS cpu
COPY --from=build /opt/lungwatch /opt/lungwatch

FROM node:20-bookworm-slim AS ohif
COPY scripts/fetch_ohif.sh /
RUN /fetch_ohif.sh /ohif

FROM nginxinc/nginx-unprivileged:1.28-bookworm AS viewer
COPY docker/ohif/nginx.conf /etc/nginx/conf.d/default.conf
COPY --from=ohif /ohif/dist /usr/share/nginx/html
COPY docker/ohif/app-config.js /usr/share/nginx/html/app-config.js
EXPOSE 8080
