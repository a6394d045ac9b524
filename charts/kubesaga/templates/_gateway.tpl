{{- /* SPDX-License-Identifier: Apache-2.0 */ -}}

{{- define "kubesaga.gatewayName" -}}
{{- printf "%s-gateway" (include "kubesaga.fullname" . | trunc 55 | trimSuffix "-") -}}
{{- end -}}

{{- define "kubesaga.gatewayAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "kubesaga.gatewayName" .) .Values.gateway.serviceAccountName -}}
{{- else -}}
{{- required "gateway.serviceAccountName: must name an existing ServiceAccount when serviceAccount.create is false" .Values.gateway.serviceAccountName -}}
{{- end -}}
{{- end -}}

{{- /* Labels that select the gateway's pods: not those of the operator. */ -}}
{{- define "kubesaga.gatewaySelectorLabels" -}}
{{- $fixed := include "kubesaga.selectorLabels" . | fromYaml -}}
{{- $_ := set $fixed "app.kubernetes.io/component" "gateway" -}}
{{- toYaml $fixed -}}
{{- end -}}

{{- define "kubesaga.gatewayLabels" -}}
{{- $all := include "kubesaga.labels" . | fromYaml -}}
{{- $_ := set $all "app.kubernetes.io/component" "gateway" -}}
{{- toYaml $all -}}
{{- end -}}

{{- define "kubesaga.gatewayPodLabels" -}}
{{- $fixed := include "kubesaga.gatewaySelectorLabels" . | fromYaml -}}
{{- mergeOverwrite (deepCopy .Values.commonLabels) .Values.podLabels $fixed | toYaml -}}
{{- end -}}

{{- /* The port of the deliveries; the gateway's own default where the values say nothing. */ -}}
{{- define "kubesaga.gatewayPort" -}}
{{- .Values.settings.gatewayPort | default 8088 | int -}}
{{- end -}}

{{- /* The gateway's environment: the settings of the operator, most of which do not concern it. */ -}}
{{- define "kubesaga.gatewayEnv" -}}
{{- with .Values.watchNamespaces }}
- name: KUBESAGA_NAMESPACES
  value: {{ join "," . | quote }}
{{- end }}
{{- range $key, $value := .Values.settings }}
- name: KUBESAGA_{{ $key | snakecase | upper }}
  value: {{ include "kubesaga.settingText" $value | quote }}
{{- end }}
{{- if .Values.gateway.tlsSecretName }}
- name: KUBESAGA_GATEWAY_TLS_CERT
  value: /etc/kubesaga/tls/tls.crt
- name: KUBESAGA_GATEWAY_TLS_KEY
  value: /etc/kubesaga/tls/tls.key
{{- end }}
{{- with .Values.apiServer.host }}
- name: KUBERNETES_SERVICE_HOST
  value: {{ . | quote }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ $.Values.apiServer.port | int | quote }}
{{- end }}
{{- end -}}

{{- /* What the gateway may do in each namespace that it serves. Secrets are no part of it: see docs/gateway.md. */ -}}
{{- define "kubesaga.gatewayRules" -}}
- apiGroups: [kubesaga.dev]
  resources: [workflows, workfloweventsources]
  verbs: [get, list, watch]
- apiGroups: [kubesaga.dev]  # get: whose run it is that bears the name of an event's run
  resources: [workflowruns]
  verbs: [get, create]
{{- end -}}
