# mil-bench in a container. The default build of torch brings CUDA; name another one for a CPU:
#   docker build --build-arg TORCH="torch==2.13.0 --index-url URL-OF-CPU-BUILDS" -t mil-bench .
#   docker run --rm -v "$PWD/results:/bench/results" mil-bench
FROM python:3.11-slim
ARG TORCH="torch==2.13.0"
COPY . /src
RUN pip install --no-cache-dir $TORCH && pip install --no-cache-dir -c /src/constraints.txt /src
WORKDIR /bench
ENTRYPOINT ["mil-bench"]
CMD ["run", "--methods", "mean-pool", "max-pool", "abmil", "abmil-gated", "hmil", "--dataset", "digits", "--preset", "quick"]
