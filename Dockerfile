# jaxnas in a container; docs/cluster.md says how to run it.
#
#   docker build -t jaxnas .                                  for CPU
#   docker build -t jaxnas:cuda --build-arg EXTRAS=cuda .     for an NVIDIA GPU; the host needs its driver only
ARG PYTHON=3.12
FROM python:${PYTHON}-slim
ARG EXTRAS=""

WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY jaxnas jaxnas
RUN pip install --no-cache-dir ".${EXTRAS:+[$EXTRAS]}"

# Runs and compiled programs go where the reader's folder is mounted, whoever the user is.
WORKDIR /work
ENV HOME=/work
ENTRYPOINT ["jaxnas"]
CMD ["--help"]
