#!/bin/sh
# Asks a gateway with nothing but `buf curl`: sh search.sh COLLECTION QUERY [HOST:PORT]
# The messages are found by reflection; where that is switched off, add --schema protos.
set -eu
collection=$1 query=$2 address=${3:-127.0.0.1:8080}

ask() {
    ${BUF:-buf} curl --protocol grpc --http2-prior-knowledge \
        ${TRIREME_API_KEY:+--header "authorization: Bearer $TRIREME_API_KEY"} \
        --data "$2" "http://$address/trireme.v1.$1"
}

ask CollectionService/GetCollection "{\"name\": \"$collection\"}"
ask SearchService/Search "{\"collection\": \"$collection\", \"query\": \"$query\", \"pageSize\": 3}"
