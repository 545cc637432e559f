# The image of training jobs (TrainingImage). From the repository's root:
#   docker build -f serving/training.Dockerfile -t fusiontrade-training .
# SageMaker runs `docker run IMAGE train`. The interpreter is the one that infra/locks/train.txt was resolved for.
FROM python:3.11-slim
COPY infra/locks/train.txt /build/train.txt
RUN python -m pip install --no-cache-dir torch==2.13.0 \
    && python -m pip install --no-cache-dir --no-deps --require-hashes -r /build/train.txt
COPY serving /opt/program/serving
COPY shared/fusiontrade /opt/program/fusiontrade
ENV PYTHONPATH=/opt/program PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1
WORKDIR /opt/program
ENTRYPOINT ["python", "-m", "serving.training.job"]
