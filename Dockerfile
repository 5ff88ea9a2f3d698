# docker build -t isr-proxy .
# docker run -p 8080:8080 -e ISR_ORIGIN_URL=http://host.docker.internal:3000 -v isr-cache:/var/lib/isr-proxy isr-proxy
#
# Without a file of your own it reads examples/container.yaml; mount yours over /etc/isr-proxy/config.yaml.

FROM python:3.11-slim AS builder

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore

WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY isr_proxy ./isr_proxy

RUN pip install --no-cache-dir --constraint constraints.txt pip
RUN pip wheel --no-cache-dir --no-deps --build-constraint constraints.txt --wheel-dir dist .
# The environment gets no pip of its own: nothing can be installed in a running container.
RUN python -m venv --without-pip /opt/isr-proxy \
    && pip --python /opt/isr-proxy/bin/python install --no-cache-dir --constraint constraints.txt dist/*.whl


FROM python:3.11-slim

LABEL org.opencontainers.image.title="isr-proxy" \
      org.opencontainers.image.description="A caching reverse proxy that gives any origin server Incremental Static Regeneration" \
      org.opencontainers.image.licenses="MIT"

ENV PATH=/opt/isr-proxy/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONFAULTHANDLER=1

RUN groupadd --system --gid 10001 isr-proxy \
    && useradd --system --uid 10001 --gid isr-proxy --home-dir /var/lib/isr-proxy --shell /usr/sbin/nologin isr-proxy \
    && install --directory --owner=isr-proxy --group=isr-proxy --mode=0750 /var/lib/isr-proxy

COPY --from=builder /opt/isr-proxy /opt/isr-proxy
COPY examples/container.yaml /etc/isr-proxy/config.yaml

USER 10001:10001
WORKDIR /var/lib/isr-proxy
VOLUME /var/lib/isr-proxy
EXPOSE 8080 8081

# Not urllib: it would ask the proxy that http_proxy names. slim has no curl.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
    CMD ["python", "-c", "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 8081, timeout=3); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]

# Drains, then stops; `docker stop --time 30` gives long responses their time.
STOPSIGNAL SIGTERM
ENTRYPOINT ["isr-proxy"]
CMD ["serve", "--config", "/etc/isr-proxy/config.yaml"]
