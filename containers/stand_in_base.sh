#!/bin/sh
# Creates the image NAME as a replacement for python:3.11-slim-bookworm where no registry can be reached. Run it as root
# on Debian bookworm with mmdebstrap. It uses the package sources and certificates of this host.
set -eu
NAME=${1:?name of the image to make}
DOCKER=${DOCKER:-docker}
CERTIFICATES=/etc/ssl/certs/ca-certificates.crt
# shellcheck disable=SC2016 # mmdebstrap expands $1, the folder of the new root.
mmdebstrap --variant=minbase --include=ca-certificates,python3,python3-venv \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --aptopt='Apt::Install-Recommends "false"' \
    --customize-hook='ln -s /usr/bin/python3 "$1/usr/local/bin/python3"' \
    --customize-hook='ln -s /usr/bin/python3 "$1/usr/local/bin/python"' \
    --customize-hook="upload $CERTIFICATES $CERTIFICATES" \
    bookworm - |
    "$DOCKER" import --change "ENV PIP_CERT=$CERTIFICATES" --change 'CMD ["python3"]' \
        --message "stand-in for python:3.11-slim-bookworm" - "$NAME"
