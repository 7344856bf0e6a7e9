{{- define "keycloak-bridge.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* 52: a CronJob adds 11 characters to its name. */}}
{{- define "keycloak-bridge.fullname" -}}
{{- $name := include "keycloak-bridge.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "keycloak-bridge.selectorLabels" -}}
app.kubernetes.io/name: {{ include "keycloak-bridge.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "keycloak-bridge.labels" -}}
{{ include "keycloak-bridge.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "keycloak-bridge.metadata" -}}
name: {{ include "keycloak-bridge.fullname" . }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "keycloak-bridge.labels" . | nindent 2 }}
{{- end }}

{{- define "keycloak-bridge.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "keycloak-bridge.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "keycloak-bridge.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* The settings as YAML, with the path of every file of `secrets`. */}}
{{- define "keycloak-bridge.settings" -}}
{{- $config := deepCopy .Values.config }}
{{- range $section, $files := .Values.secrets }}
{{- $table := get $config $section | default dict }}
{{- range $key := keys $files | sortAlpha }}
{{- if hasKey $table $key }}
{{- fail (printf "%s.%s is set in config and in secrets: keep one of them" $section $key) }}
{{- end }}
{{- $_ := set $table $key (printf "/run/secrets/keycloak-bridge/%s/%s" $section $key) }}
{{- end }}
{{- $_ := set $config $section $table }}
{{- end }}
{{- $keycloak := $config.keycloak }}
{{- if not (or $keycloak.client_secret_file $keycloak.client_key_file $keycloak.client_assertion_file $keycloak.tls_cert_file) }}
{{- fail "the bridge cannot log in to Keycloak: set secrets.keycloak.client_secret_file, client_key_file, client_assertion_file or tls_cert_file (docs/kubernetes.md)" }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{/* Settings as TOML: what JSON writes of a text, a number, a truth or a list is TOML too. */}}
{{- define "keycloak-bridge.toml" -}}
{{- range $section, $table := include "keycloak-bridge.settings" . | fromYaml }}
[{{ $section }}]
{{- range $key, $value := $table }}
{{- if kindIs "map" $value }}
{{- $pairs := list }}
{{- range $name, $one := $value }}
{{- $pairs = append $pairs (printf "%s = %s" (toJson $name) (toJson $one)) }}
{{- end }}
{{ $key }} = { {{- join ", " $pairs -}} }
{{- else if not (kindIs "invalid" $value) }}
{{ $key }} = {{ toJson $value }}
{{- end }}
{{- end }}
{{ end }}
{{- end }}

{{- define "keycloak-bridge.configData" -}}
bridge.toml: |
  {{- include "keycloak-bridge.toml" . | trim | nindent 2 }}
{{- range $path, $text := .Values.files }}
{{ replace "/" "__" $path }}: |
  {{- $text | nindent 2 }}
{{- end }}
{{- end }}

{{/* Every port that URLs and host:port pairs name, as a JSON list of numbers. */}}
{{- define "keycloak-bridge.ports" -}}
{{- $ports := list }}
{{- range . }}
{{- $port := regexFind "[0-9]+$" (regexFind ":[0-9]+$" (ternary (get (urlParse .) "host") . (contains "://" .))) }}
{{- $ports = append $ports (int (default (ternary "443" "80" (hasPrefix "https:" .)) $port)) }}
{{- end }}
{{- $ports | uniq | toJson }}
{{- end }}

{{/* What a layout cannot have. */}}
{{- define "keycloak-bridge.check" -}}
{{- $never := dict
  "deployment" (list)
  "sidecar" (list "keda" "networkPolicy" "podDisruptionBudget")
  "job" (list "keda" "podDisruptionBudget" "podMonitor" "prometheusRule") }}
{{- range $option := get $never .Values.layout }}
{{- if (get $.Values $option).enabled }}
{{- fail (printf "layout %s cannot have %s.enabled: %s" $.Values.layout $option (ternary "it would be for Keycloak's Pods as a whole" "a Job ends" (eq $.Values.layout "sidecar"))) }}
{{- end }}
{{- end }}
{{- end }}
