# SPDX-License-Identifier: Apache-2.0
#
# The image is the static binary and nothing else: `make image` builds both.
FROM scratch
COPY bin/netpold /netpold
ENTRYPOINT ["/netpold"]
