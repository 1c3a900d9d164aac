# The build stage compiles the one binary; the final image holds that, a configuration, and no shell.
FROM node:22-bookworm-slim AS build
WORKDIR /src
COPY package.json bun.lock bunfig.toml tsconfig.json ./
COPY .ci/setup.mjs .ci/
RUN node .ci/setup.mjs
COPY src src
RUN npm run build && install -d -o 65532 -g 65532 /data

# The C library and nothing else, which is all the binary needs; runs as its user "nonroot" (65532).
FROM gcr.io/distroless/base-nossl-debian12:nonroot
COPY --from=build /src/dist/merklekv /usr/local/bin/merklekv
COPY --from=build --chown=nonroot:nonroot /data /data
COPY configs/docker.toml /etc/merklekv/docker.toml
# The runtime inside the executable heeds these: nothing from outside is to act on it unasked.
ENV BUN_OPTIONS="" BUN_BE_BUN="" BUN_INSPECT="" BUN_INSPECT_CONNECT_TO="" BUN_INSPECT_PRELOAD=""
WORKDIR /data
VOLUME /data
EXPOSE 7379
# Each container needs a name of its own: -e MERKLE_KV_NODE_ID=node1
ENTRYPOINT ["/usr/local/bin/merklekv"]
CMD ["serve", "--config", "/etc/merklekv/docker.toml"]
# Answered without a login, which PING is not.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
  CMD ["/usr/local/bin/merklekv", "cli", "DIALECT", "plain"]
