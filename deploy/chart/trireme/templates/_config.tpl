{{/* The configuration of each role, as YAML; keys of `config` in the values are added to it. */}}

{{/* What every role is told. */}}
{{- define "trireme.config.common" -}}
metrics_address: 0.0.0.0:9090
health_address: 0.0.0.0:8090
# Until nobody is sent to a pod that stops.
drain_pause_seconds: 5.0
{{- end -}}

{{- define "trireme.config.index" -}}
{{- if .Values.index.url -}}
index_directory: /var/lib/trireme/index
index_url: {{ .Values.index.url | quote }}
index_endpoint: {{ .Values.index.endpoint | quote }}
index_region: {{ .Values.index.region | quote }}
{{- else -}}
index_directory: /index
{{- end -}}
{{- end -}}

{{- define "trireme.config.models" -}}
triton_address: {{ include "trireme.tritonAddress" . }}
model_directory: /models
{{- end -}}

{{- define "trireme.config.certificate" -}}
tls_certificate_file: /etc/trireme/tls/tls.crt
tls_key_file: /etc/trireme/tls/tls.key
{{- end -}}

{{- define "trireme.config.gateway" -}}
address: 0.0.0.0:8080
shards:
{{- $name := include "trireme.fullname" . }}
{{- range $shard := until (int .Values.shard.count) }}
{{- range $replica := until (int $.Values.shard.replicas) }}
- {{ $name }}-shard-{{ $shard }}-{{ $replica }}.{{ $name }}-shards.{{ $.Release.Namespace }}.svc:8081
{{- end }}
{{- end }}
indexer_address: {{ $name }}-indexer.{{ .Release.Namespace }}.svc:8082
{{ include "trireme.config.models" . }}
{{ include "trireme.config.common" . }}
{{- if .Values.gateway.http.enabled }}
http_address: 0.0.0.0:{{ .Values.gateway.http.port }}
console: {{ .Values.gateway.http.console }}
{{- end }}
{{- if .Values.gateway.pageTokenKey.existingSecret }}
page_token_key_file: /etc/trireme/page-token/key
{{- end }}
{{- if .Values.apiKeys.existingSecret }}
api_keys_file: /etc/trireme/keys/keys.yaml
{{- end }}
{{- if .Values.tls.existingSecret }}
{{ include "trireme.config.certificate" . }}
tls_ca_file: /etc/trireme/tls/ca.crt
{{- if .Values.tls.clientCertificates }}
tls_client_ca_file: /etc/trireme/tls/ca.crt
{{- end }}
{{- end }}
{{- end -}}

{{- define "trireme.config.shard" -}}
address: 0.0.0.0:8081
{{ include "trireme.config.index" . }}
{{ include "trireme.config.common" . }}
{{- if .Values.tls.existingSecret }}
{{ include "trireme.config.certificate" . }}
tls_client_ca_file: /etc/trireme/tls/ca.crt
{{- end }}
{{- end -}}

{{- define "trireme.config.indexer" -}}
address: 0.0.0.0:8082
database_url: {{ .Values.database.url | default "sqlite:////var/lib/trireme/documents.db" | quote }}
shard_count: {{ .Values.shard.count }}
{{ include "trireme.config.index" . }}
{{ include "trireme.config.models" . }}
{{ include "trireme.config.common" . }}
{{- with .Values.snapshots.location }}
snapshot_location: {{ . | quote }}
{{- end }}
{{- if .Values.tls.existingSecret }}
{{ include "trireme.config.certificate" . }}
tls_ca_file: /etc/trireme/tls/ca.crt
tls_client_ca_file: /etc/trireme/tls/ca.crt
{{- end }}
{{- end -}}

{{/* Of (root, role, extra): the file that a role reads. */}}
{{- define "trireme.config" -}}
{{- $root := index . 0 -}}
{{- $role := index . 1 -}}
{{- $computed := include (printf "trireme.config.%s" $role) $root | fromYaml -}}
{{- $own := (index $root.Values $role).config -}}
{{ toYaml (dict $role (mustMergeOverwrite $computed (index . 2) (deepCopy $own))) }}
{{- end -}}
