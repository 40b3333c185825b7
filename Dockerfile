# A server of a saved classifier, on the CPU:
#   docker build -t rehead --build-arg TORCH_INDEX=URL .
#   docker run -e REHEAD_API_KEYS=KEY -v ./my-model:/model:ro -p 8000:8000 rehead
FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1
RUN useradd --create-home --uid 1000 rehead
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
# An index of torch without CUDA: gigabytes less.
ARG TORCH_INDEX=""
RUN PIP_EXTRA_INDEX_URL="$TORCH_INDEX" pip install --no-cache-dir --constraint constraints.txt '.[serve,images]'

USER rehead
# Jobs on files are kept in rehead-jobs here: give it a volume where they are to outlive the container.
WORKDIR /home/rehead
EXPOSE 8000
HEALTHCHECK --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=5)"]
ENTRYPOINT ["rehead"]
CMD ["serve", "/model", "--host", "0.0.0.0"]
