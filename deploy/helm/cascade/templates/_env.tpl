{{/* A component's environment as YAML, each name once: what `settings` say goes before what the chart says. values.schema.json
     refuses those that the chart tells Kubernetes, too: (dict "root" $ "component" "server"|"gpu"). */}}
{{- define "cascade.env" -}}
{{- $values := .root.Values -}}
{{- $server := eq .component "server" -}}
{{- $env := dict "CASCADE_DRAIN_S" (toString $values.drainSeconds) -}}
{{- $_ := set $env "CASCADE_SERVER" (include "cascade.address" (dict "root" .root "host" "127.0.0.1" "token" false)) -}}
{{- if $server -}}
{{- if $values.http.enabled -}}
{{- $_ := set $env "CASCADE_HTTP_PORT" "8080" -}}
{{- end -}}
{{- if $values.gpu.enabled -}}
{{- $stage2 := include "cascade.componentName" (dict "root" .root "component" "gpu") -}}
{{- $_ := set $env "CASCADE_STAGE2" (include "cascade.address" (dict "root" .root "host" $stage2 "token" true)) -}}
{{- end -}}
{{- if $values.policy -}}
{{- $_ := set $env "CASCADE_POLICY" "/policy/policy.toml" -}}
{{- end -}}
{{- else -}}
{{- $_ := set $env "CASCADE_GPU" "true" -}}
{{- /* Servers keep one connection each: made anew now and then, they spread over the pods. */ -}}
{{- $_ := set $env "CASCADE_MAX_CONNECTION_AGE_S" "60" -}}
{{- end -}}
{{- if $values.tls.secretName -}}
{{- $_ := set $env "CASCADE_TLS_CERT" "/tls/tls.crt" -}}
{{- $_ := set $env "CASCADE_TLS_KEY" "/tls/tls.key" -}}
{{- if $values.tls.clientCa -}}
{{- $_ := set $env "CASCADE_TLS_CLIENT_CA" "/tls/ca.crt" -}}
{{- end -}}
{{- else -}}
{{- $_ := set $env "CASCADE_INSECURE_PUBLIC" "true" -}}{{/* the NetworkPolicy says who gets here */}}
{{- end -}}
{{- if $values.tokens.secretName -}}
{{- $_ := set $env "CASCADE_TOKEN_FILE" "/tokens/tokens.toml" -}}
{{- end -}}
{{ mergeOverwrite $env ((get $values .component).settings | default dict) | toYaml }}
{{- end }}
