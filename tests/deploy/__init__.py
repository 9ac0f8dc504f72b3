"""Images, chart and Compose file: what can be proved without Docker and without a cluster."""
