# ArtStore's program and the NATS server beside it. Targets: `artstore` (the services), `tools` (operators' commands,
# with pg_dump), `nats` (the server with its configuration).

# --- the program ---------------------------------------------------------------------------------------------------
FROM rust:1.95.0-bookworm AS build
WORKDIR /build

# Dependencies first, in a layer that only manifests change: empty sources in the place of ours.
COPY Cargo.toml Cargo.lock ./
COPY schemas/Cargo.toml schemas/
COPY runtime/Cargo.toml runtime/
COPY bus/Cargo.toml bus/
COPY producers/Cargo.toml producers/
COPY projectors/Cargo.toml projectors/
COPY verification/Cargo.toml verification/
COPY repair/Cargo.toml repair/
COPY migrations/Cargo.toml migrations/
COPY stack/Cargo.toml stack/
RUN mkdir -p src schemas/src runtime/src bus/src producers/src projectors/src verification/src repair/src migrations/src stack/src tests/it \
    && echo 'fn main() {}' > src/main.rs \
    && cp src/main.rs tests/it/main.rs \
    && touch src/lib.rs schemas/src/lib.rs runtime/src/lib.rs bus/src/lib.rs producers/src/lib.rs projectors/src/lib.rs verification/src/lib.rs repair/src/lib.rs migrations/src/lib.rs stack/src/lib.rs \
    && cargo build --release --locked --workspace

# Then ours: newer than what was built of the empty ones. The bill of materials stands beside the program.
COPY . .
RUN find . -name '*.rs' -not -path './target/*' -exec touch {} + \
    && cargo build --release --locked --bin artstore \
    && strip target/release/artstore \
    && scripts/sbom

# --- NATS, as a user of its own ------------------------------------------------------------------------------------
FROM nats:2.14.6-alpine AS nats
# A new volume takes owner and rights from here.
RUN install -d -o 10001 -g 10001 -m 0700 /data /etc/nats/permissions
COPY deploy/nats/nats.conf /etc/nats/nats.conf
USER 10001:10001
VOLUME ["/data"]
CMD ["nats-server", "-c", "/etc/nats/nats.conf"]

# --- operators' commands: pg_dump has to be as new as the server ----------------------------------------------------
FROM postgres:17.6-bookworm AS tools
# The same user as that of the services: it has the keys that they have made.
RUN install -d -o 10001 -g 10001 -m 0700 /backups
COPY --from=build /build/target/release/artstore /usr/local/bin/artstore
COPY --from=build /build/target/sbom/artstore.cdx.json /usr/local/share/artstore/artstore.cdx.json
USER 10001:10001
WORKDIR /backups
STOPSIGNAL SIGTERM
ENTRYPOINT ["artstore"]
CMD ["--help"]

# --- the services: the last target is the default -------------------------------------------------------------------
FROM debian:12.11-slim AS artstore
# Certificates for TLS to servers elsewhere, as new as the base has them.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 10001 artstore \
    && useradd --uid 10001 --gid artstore --no-create-home --shell /usr/sbin/nologin artstore \
    && install -d -o artstore -g artstore -m 0755 /keys \
    && install -d -o artstore -g artstore -m 0700 /nats/server /nats/relay /nats/projector /nats/audit /nats/reader \
        /nats/operator /nats/administrator
COPY --from=build /build/target/release/artstore /usr/local/bin/artstore
COPY --from=build /build/target/sbom/artstore.cdx.json /usr/local/share/artstore/artstore.cdx.json
ARG ARTSTORE_VERSION=0.1.0
LABEL org.opencontainers.image.title="artstore" \
      org.opencontainers.image.description="ArtStore's event backbone: storage-element WAL to NATS JetStream to query cache" \
      org.opencontainers.image.version="${ARTSTORE_VERSION}" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["artstore"]
CMD ["--help"]
