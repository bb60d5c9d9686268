# Runs s2s on a CPU:
#   docker build -t s2s .
#   docker run --rm -v "$PWD:/work" s2s init starter
FROM python:3.12.11-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml setup.cfg README.md LICENSE ./
COPY seq2seq_kit seq2seq_kit
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12.11-slim-bookworm
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir /wheels/*.whl
# Files made in a mounted folder belong to the first user of most machines, not to root.
RUN useradd --create-home --uid 1000 s2s
USER 1000
WORKDIR /work
ENTRYPOINT ["s2s"]
CMD ["--help"]
