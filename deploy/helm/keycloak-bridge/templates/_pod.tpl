{{/* The bridge's container; `sidecar` leaves readiness to Keycloak, `job` ends. */}}
{{- define "keycloak-bridge.container" -}}
{{- $sidecar := eq .Values.layout "sidecar" }}
{{- $job := eq .Values.layout "job" }}
{{- /* Another command than `run` serves no /live. */}}
{{- $command := ternary .Values.job.args list $job }}
name: keycloak-bridge
image: {{ include "keycloak-bridge.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- if $sidecar }}
restartPolicy: Always
{{- end }}
{{- if $command }}
args: {{ toJson $command }}
{{- else }}
args: [run{{ if $job }}, --until-caught-up{{ end }}]
{{- end }}
env:
  - name: KEYCLOAK_BRIDGE_CONFIG
    value: /etc/keycloak-bridge/bridge.toml
  - name: KEYCLOAK_BRIDGE_HEALTH_PORT
    value: {{ .Values.config.health.port | toString | quote }}
  {{- range $name, $value := .Values.environment }}
  - name: {{ $name }}
    value: {{ $value | quote }}
  {{- end }}
ports:
  - name: bridge-health
    containerPort: {{ .Values.config.health.port }}
{{- if and (not $command) (or (not $sidecar) .Values.sidecar.startupProbe) }}
startupProbe:
  httpGet: {path: /live, port: bridge-health}
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 60
{{- end }}
{{- if not $command }}
livenessProbe:
  httpGet: {path: /live, port: bridge-health}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end }}
{{- if not (or $sidecar $job) }}
readinessProbe:
  httpGet: {path: /ready, port: bridge-health}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
{{- end }}
resources:
  {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  capabilities: {drop: [ALL]}
  privileged: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  {{- with .Values.runAsUser }}
  runAsUser: {{ int64 . }}
  {{- end }}
  {{- with .Values.runAsGroup }}
  runAsGroup: {{ int64 . }}
  {{- end }}
  seccompProfile: {type: RuntimeDefault}
volumeMounts:
  - name: keycloak-bridge-config
    mountPath: /etc/keycloak-bridge
    readOnly: true
  {{- if .Values.secrets }}
  - name: keycloak-bridge-secrets
    mountPath: /run/secrets/keycloak-bridge
    readOnly: true
  {{- end }}
  - name: keycloak-bridge-tmp
    mountPath: /tmp
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* Only this container mounts them, so all may read them: then no fsGroup is needed beside Keycloak. */}}
{{- define "keycloak-bridge.volumes" -}}
- name: keycloak-bridge-config
  configMap:
    name: {{ include "keycloak-bridge.fullname" . }}
    {{- if .Values.files }}
    items:
      - {key: bridge.toml, path: bridge.toml}
      {{- range $path, $_ := .Values.files }}
      - {key: {{ replace "/" "__" $path }}, path: {{ $path }}}
      {{- end }}
    {{- end }}
{{- if .Values.secrets }}
- name: keycloak-bridge-secrets
  projected:
    defaultMode: 0444
    sources:
      {{- range $section, $files := .Values.secrets }}
      {{- range $key, $source := $files }}
      {{- $path := printf "%s/%s" $section $key }}
      {{- if $source.serviceAccountToken }}
      - serviceAccountToken:
          path: {{ $path }}
          audience: {{ $source.serviceAccountToken.audience }}
          expirationSeconds: {{ default 600 $source.serviceAccountToken.expirationSeconds | int }}
      {{- else }}
      - {{ ternary "secret" "configMap" (hasKey $source "secret") }}:
          name: {{ default $source.configMap $source.secret }}
          items:
            - {key: {{ $source.key }}, path: {{ $path }}}
      {{- end }}
      {{- end }}
      {{- end }}
{{- end }}
- name: keycloak-bridge-tmp
  emptyDir: {sizeLimit: 16Mi}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "keycloak-bridge.podMetadata" -}}
labels:
  {{- include "keycloak-bridge.selectorLabels" . | nindent 2 }}
  app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
  {{- with .Values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  checksum/config: {{ include "keycloak-bridge.configData" . | sha256sum }}
  {{- with .Values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "keycloak-bridge.podSpec" -}}
serviceAccountName: {{ include "keycloak-bridge.serviceAccountName" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- if eq .Values.layout "job" }}
restartPolicy: Never
{{- end }}
terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
securityContext:
  runAsNonRoot: true
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" }}
{{- with get $.Values $key }}
{{ $key }}:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
containers:
  - {{- include "keycloak-bridge.container" . | nindent 4 }}
volumes:
  {{- include "keycloak-bridge.volumes" . | nindent 2 }}
{{- end }}
