# SPDX-License-Identifier: Apache-2.0
#
# The static binary and nothing else; `make image` builds both. Nothing is run while the image is built and nothing is
# pulled.
FROM scratch
LABEL org.opencontainers.image.title="netpold" \
      org.opencontainers.image.description="Enforces Kubernetes NetworkPolicy with one nftables table" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY bin/netpold /bin/netpold
# So that `kubectl exec ds/netpold -- netpold status` finds it.
ENV PATH=/bin
ENTRYPOINT ["/bin/netpold"]
