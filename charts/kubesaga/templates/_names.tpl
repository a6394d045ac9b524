{{- /* SPDX-License-Identifier: Apache-2.0 */ -}}

{{- /* The release's name for its objects: RELEASE-kubesaga, or RELEASE alone where it says kubesaga already. */ -}}
{{- define "kubesaga.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* Labels that select the operator's pods. They never change during the life of a release. */ -}}
{{- define "kubesaga.selectorLabels" -}}
app.kubernetes.io/component: controller
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- /* Labels of every object. The fixed ones win over commonLabels, so that no key can appear twice. */ -}}
{{- define "kubesaga.labels" -}}
{{- $fixed := include "kubesaga.selectorLabels" . | fromYaml -}}
{{- $_ := set $fixed "app.kubernetes.io/part-of" "kubesaga" -}}
{{- $_ := set $fixed "app.kubernetes.io/version" .Chart.AppVersion -}}
{{- $_ := set $fixed "app.kubernetes.io/managed-by" .Release.Service -}}
{{- $_ := set $fixed "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-") -}}
{{- mergeOverwrite (deepCopy .Values.commonLabels) $fixed | toYaml -}}
{{- end -}}

{{- /* Labels of the operator's pods. */ -}}
{{- define "kubesaga.podLabels" -}}
{{- $fixed := include "kubesaga.selectorLabels" . | fromYaml -}}
{{- mergeOverwrite (deepCopy .Values.commonLabels) .Values.podLabels $fixed | toYaml -}}
{{- end -}}

{{- define "kubesaga.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "kubesaga.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name: must name an existing ServiceAccount when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "kubesaga.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- /* The port of /metrics, /healthz and /readyz; the operator's own default where the values say nothing. */ -}}
{{- define "kubesaga.httpPort" -}}
{{- .Values.settings.httpPort | default 8080 | int -}}
{{- end -}}

{{- /* The Lease that elects the one active operator; the operator's own default where the values say nothing. */ -}}
{{- define "kubesaga.leaseName" -}}
{{- .Values.settings.leaseName | default "kubesaga-controller" -}}
{{- end -}}
