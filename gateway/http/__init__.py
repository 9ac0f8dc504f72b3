"""Thin HTTP doors to the same pipeline, in shapes that people already use.

Start with `server`, which lists them all. Each door turns a body of JSON into the message of one
rpc, asks this process's own gRPC server (`rpc`) and turns the reply back; so metrics, credentials,
quotas, admission and deadlines are those of gRPC, held in one place. `console` is a page to look
at.
"""
