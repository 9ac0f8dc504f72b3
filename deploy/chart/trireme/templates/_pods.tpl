{{/* What all pods have in common. Each takes (root, values of the role) unless it says otherwise. */}}

{{- define "trireme.pod" -}}
{{- $root := index . 0 -}}
{{- $role := index . 1 -}}
serviceAccountName: {{ include "trireme.serviceAccount" $root }}
automountServiceAccountToken: false
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with $role.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $role.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $role.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{/* Of (root, role's name, labels): replicas lie on different nodes where that is possible. */}}
{{- define "trireme.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- . | nindent 8 }}
{{- end -}}

{{- define "trireme.container" -}}
{{- $root := index . 0 -}}
{{- $role := index . 1 -}}
image: {{ include "trireme.image" (list $root $role.image) | quote }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
resources: {{- include "trireme.resources" $role | nindent 2 }}
{{- end -}}

{{/* Of (values of the role): its resources, GPUs among them. */}}
{{- define "trireme.resources" -}}
{{- $resources := deepCopy .resources -}}
{{- if .gpus -}}
{{- $limits := merge (dict "nvidia.com/gpu" (int .gpus)) ($resources.limits | default dict) -}}
{{- $_ := set $resources "limits" $limits -}}
{{- end -}}
{{ toYaml $resources }}
{{- end -}}

{{/* Of (seconds until a start counts as failed): by the plain health port, which TLS does not cover. */}}
{{- define "trireme.probes" -}}
startupProbe:
  grpc: {port: 8090, service: liveness}
  periodSeconds: 2
  failureThreshold: {{ div . 2 }}
livenessProbe:
  grpc: {port: 8090, service: liveness}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  grpc: {port: 8090}
  periodSeconds: 5
  timeoutSeconds: 2
  failureThreshold: 2
{{- end -}}

{{/* Of (a role's name, its configuration): time for the pause, for calls in flight, and for the rest. */}}
{{- define "trireme.graceSeconds" -}}
{{- $settings := index (fromYaml (index . 1)) (index . 0) -}}
{{- add (ceil $settings.drain_pause_seconds) (ceil ($settings.drain_seconds | default 5.0)) 10 -}}
{{- end -}}

{{/* Of (root): credentials of the bucket. */}}
{{- define "trireme.bucketEnv" -}}
{{- if and .Values.index.url .Values.index.existingSecret -}}
{{- range list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ . }}
  valueFrom:
    secretKeyRef: {name: {{ $.Values.index.existingSecret }}, key: {{ . }}}
{{- end }}
{{- end -}}
{{- end -}}

{{/* Of (root, role's name): volumes with the role's configuration, certificate and a place to write. */}}
{{- define "trireme.volumes" -}}
{{- $root := index . 0 -}}
{{- $role := index . 1 -}}
- name: tmp
  emptyDir: {}
{{- with include "trireme.tlsSecret" . }}
- name: tls
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- with (index $root.Values $role).extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "trireme.mounts" -}}
{{- $root := index . 0 -}}
{{- $role := index . 1 -}}
- {name: config, mountPath: /etc/trireme/config.yaml, subPath: config.yaml, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- if include "trireme.tlsSecret" . }}
- {name: tls, mountPath: /etc/trireme/tls, readOnly: true}
{{- end }}
{{- with (index $root.Values $role).extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Of (root): the models of a claim; without one those in the image are read. */}}
{{- define "trireme.modelsVolume" -}}
{{- with .Values.models.existingClaim -}}
- name: models
  persistentVolumeClaim: {claimName: {{ . }}, readOnly: true}
{{- end -}}
{{- end -}}
{{- define "trireme.modelsMount" -}}
{{- if .Values.models.existingClaim -}}
- {name: models, mountPath: /models, readOnly: true}
{{- end -}}
{{- end -}}
