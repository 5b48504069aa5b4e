{{/* The pod of a component: (dict "root" $ "component" "server"|"gpu"). */}}
{{- define "cascade.pod" -}}
{{- $values := .root.Values -}}
{{- $own := get $values .component -}}
{{- $server := eq .component "server" -}}
metadata:
  labels:
    {{- include "cascade.labels" . | nindent 4 }}
  annotations:
    prometheus.io/scrape: "true"
    prometheus.io/port: "9090"
    {{- with $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "cascade.name" .root }}
  automountServiceAccountToken: false
  # A service called "cascade" would set CASCADE_PORT=tcp://..., which is an option of ours.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ add $values.drainSeconds 15 }}
  {{- with $values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    seccompProfile: {type: RuntimeDefault}
  containers:
    - name: cascade
      image: {{ include "cascade.image" . | quote }}
      imagePullPolicy: {{ $own.image.pullPolicy }}
      args: [serve]
      env:
        {{- range $name, $value := include "cascade.env" . | fromYaml }}
        - {name: {{ $name }}, value: {{ $value | quote }}}
        {{- end }}
      ports:
        - {name: grpc, containerPort: 50051}
        - {name: metrics, containerPort: 9090}
        {{- if and $server $values.http.enabled }}
        - {name: http, containerPort: 8080}
        {{- end }}
      startupProbe: # two minutes for the models and their warm-up
        {{- include "cascade.probe" (dict "root" .root "service" "") | nindent 8 }}
        periodSeconds: 2
        failureThreshold: 60
      readinessProbe:
        {{- include "cascade.probe" (dict "root" .root "service" (ternary $values.readiness.service "" $server)) | nindent 8 }}
        periodSeconds: 10
      livenessProbe:
        {{- include "cascade.probe" (dict "root" .root "service" "") | nindent 8 }}
        periodSeconds: 20
        failureThreshold: 6
      lifecycle:
        preStop:
          sleep: {seconds: 5} # until nobody sends calls here any more
      resources:
        {{- toYaml $own.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      volumeMounts:
        - {name: tmp, mountPath: /tmp}
        {{- if and $server $values.policy }}
        - {name: policy, mountPath: /policy, readOnly: true}
        {{- end }}
        {{- if $values.tls.secretName }}
        - {name: tls, mountPath: /tls, readOnly: true}
        {{- end }}
        {{- if $values.tokens.secretName }}
        - {name: tokens, mountPath: /tokens, readOnly: true}
        {{- end }}
        {{- with $values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: tmp
      emptyDir: {sizeLimit: 256Mi}
    {{- if and $server $values.policy }}
    - name: policy
      configMap: {name: {{ include "cascade.name" .root }}-policy}
    {{- end }}
    {{- if $values.tls.secretName }}
    - name: tls
      secret: {secretName: {{ $values.tls.secretName }}, defaultMode: 0440}
    {{- end }}
    {{- if $values.tokens.secretName }}
    - name: tokens
      secret:
        secretName: {{ $values.tokens.secretName }}
        defaultMode: 0440
        items:
          - {key: tokens.toml, path: tokens.toml}
          {{- if and $server $values.gpu.enabled }}
          - {key: stage2-token, path: stage2-token}
          {{- end }}
    {{- end }}
    {{- with $values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "cascade.selector" . | nindent 10 }}
  {{- with $own.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $own.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $own.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* The components that are deployed. */}}
{{- define "cascade.components" -}}
server{{ if .Values.gpu.enabled }} gpu{{ end }}
{{- end }}
