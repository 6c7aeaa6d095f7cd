# One image for every part: web, worker, beat, migrate. docker-compose.yml shows how they fit together.

FROM python:3.13-slim-bookworm AS install
COPY requirements/base.txt /requirements.txt
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes -r /requirements.txt

FROM python:3.13-slim-bookworm
RUN useradd --system --uid 10001 --home-dir /data tollgate \
    && install --directory --owner tollgate --mode 0700 /data
COPY --from=install /venv /venv
COPY . /tollgate
WORKDIR /tollgate
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOST=0.0.0.0 \
    PORT=8000 \
    DATA_DIR=/data
RUN python -m compileall -q accounts threads proxy gateway
USER 10001
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
CMD ["python", "manage.py", "quickstart"]
