{{/* The release's own name, once if it holds the chart's. */}}
{{- define "cascade.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-{{ .Chart.Name }}{{ end }}
{{- end }}

{{/* A component's objects: (dict "root" $ "component" "server"|"gpu"). Servers have the release's plain name. */}}
{{- define "cascade.componentName" -}}
{{ include "cascade.name" .root | trunc 58 | trimSuffix "-" }}{{ if eq .component "gpu" }}-gpu{{ end }}
{{- end }}

{{- define "cascade.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "cascade.labels" -}}
{{ include "cascade.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "cascade.image" -}}
{{- $image := (get .root.Values .component).image -}}
{{- $kind := ternary "gpu" "cpu" (eq .component "gpu") -}}
{{- $tag := $image.tag | default (printf "%s-%s" $kind .root.Chart.AppVersion) -}}
{{ $image.repository }}{{ if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $tag }}{{ end }}
{{- end }}

{{/* A name that the certificate has. */}}
{{- define "cascade.serverName" -}}
{{ .Values.tls.serverName | default (printf "%s.%s.svc" (include "cascade.componentName" (dict "root" . "component" "server")) .Release.Namespace) }}
{{- end }}

{{/* How one of our pods calls another one, or itself: (dict "root" $ "host" HOST "token" BOOL). */}}
{{- define "cascade.address" -}}
{{- $query := list -}}
{{- if .root.Values.tls.secretName -}}
{{- $query = list "ca=/tls/ca.crt" (printf "name=%s" (include "cascade.serverName" .root)) -}}
{{- if .root.Values.tls.clientCa -}}
{{- $query = concat $query (list "cert=/tls/tls.crt" "key=/tls/tls.key") -}}
{{- end -}}
{{- else -}}
{{- $query = list "insecure=yes" -}}
{{- end -}}
{{- if and .token .root.Values.tokens.secretName -}}
{{- $query = append $query "token_file=/tokens/stage2-token" -}}
{{- end -}}
{{ ternary "grpcs" "grpc" (not (empty .root.Values.tls.secretName)) }}://{{ .host }}:50051?{{ join "&" $query }}
{{- end }}

{{/* The kubelet's own gRPC probe knows no TLS; with certificates the pod asks itself. */}}
{{- define "cascade.probe" -}}
{{- if .root.Values.tls.secretName -}}
exec:
  command: [cascade, health{{ if .service }}, --service, {{ .service | quote }}{{ end }}]
{{- else -}}
grpc:
  port: 50051
  service: {{ .service | quote }}
{{- end }}
timeoutSeconds: 10
{{- end }}
