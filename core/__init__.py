"""What the roles agree on: errors, deadlines, documents, the segment format, the Triton client.

Start with `errors`, `deadline` and `documents`; then `segment` and `manifest` for what lies on
disk, `encoding` for how Triton is asked, and `rpc` for how every role serves.
May import: libraries and, in `wire`, `rpc`, `interceptors` and `decoding`, the stubs. Never a role.
"""
