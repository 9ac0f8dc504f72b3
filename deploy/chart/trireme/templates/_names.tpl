{{/* What things are called, and the labels by which they find each other. */}}

{{- define "trireme.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Of (root, component): what selects the pods of a role. */}}
{{- define "trireme.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ $root.Chart.Name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Of (root, component): the labels of every object. */}}
{{- define "trireme.labels" -}}
{{- $root := index . 0 -}}
{{ include "trireme.selector" . }}
app.kubernetes.io/part-of: trireme
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end -}}

{{- define "trireme.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "trireme.fullname" .) -}}
{{- end -}}

{{/* Of (root, image): where a role's image is. */}}
{{- define "trireme.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- with $image.registry | default $root.Values.image.registry }}{{ . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default $root.Values.image.tag | default $root.Chart.AppVersion }}{{ end -}}
{{- end -}}

{{- define "trireme.tritonAddress" -}}
{{- if .Values.triton.enabled -}}
{{ include "trireme.fullname" . }}-triton.{{ .Release.Namespace }}.svc:8001
{{- else -}}
{{ required "triton.address: say where your Triton is, or set triton.enabled" .Values.triton.address }}
{{- end -}}
{{- end -}}

{{- define "trireme.indexClaim" -}}
{{- .Values.index.persistence.existingClaim | default (printf "%s-index" (include "trireme.fullname" .)) -}}
{{- end -}}

{{/* Of (root, role): the Secret of a role's certificate, empty without TLS. */}}
{{- define "trireme.tlsSecret" -}}
{{- $root := index . 0 -}}
{{- if $root.Values.tls.existingSecret -}}
{{- index $root.Values.tls.existingSecrets (index . 1) | default $root.Values.tls.existingSecret -}}
{{- end -}}
{{- end -}}

{{/* How many gateways there are at most. */}}
{{- define "trireme.gateways" -}}
{{- ternary .Values.gateway.autoscaling.maxReplicas .Values.gateway.replicas .Values.gateway.autoscaling.enabled -}}
{{- end -}}
