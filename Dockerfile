# Everything of EDCO that runs in a container: Prefect server, worker and commands.
#
#   docker build --build-arg VARIANT=cpu  -t edco:cpu .
#   docker build --build-arg VARIANT=cuda -t edco:cuda .
#
# TORCH_INDEX takes another index for torch, such as that of one CUDA version.
FROM python:3.11-slim-bookworm

ARG VARIANT=cpu
ARG TORCH_INDEX=""

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1

WORKDIR /app

# Layers that stay while only the code changes: torch, then all other dependencies, all pinned.
COPY pyproject.toml constraints.txt ./
RUN set -eu; \
    case "${VARIANT}" in \
        cpu) index="https://download.pytorch.org/whl/cpu" ;; \
        cuda) index="https://pypi.org/simple" ;; \
        *) echo "VARIANT is '${VARIANT}'; allowed: cpu, cuda" >&2; exit 2 ;; \
    esac; \
    python -m pip install --constraint constraints.txt \
        --index-url "${TORCH_INDEX:-${index}}" --extra-index-url https://pypi.org/simple torch
RUN set -eu; \
    python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
needed = project['dependencies']; \
needed += project['optional-dependencies']['qlora'] if '${VARIANT}' == 'cuda' else []; \
print(*needed, sep='\n')" > requirements.txt; \
    python -m pip install --constraint constraints.txt --requirement requirements.txt

COPY . .
# A volume that is new takes over the owner of the folder it is mounted on.
RUN set -eu; \
    python -m pip install --no-deps --editable .; \
    useradd --create-home --uid 1000 edco; \
    install --directory --owner edco --group edco /data /models /runs

USER 1000:1000
WORKDIR /runs
CMD ["edco", "--help"]
