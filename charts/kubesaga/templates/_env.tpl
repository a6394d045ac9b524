{{- /* SPDX-License-Identifier: Apache-2.0 */ -}}

{{- /* A setting as the text of an environment variable: lists by commas, whole numbers without exponent. */ -}}
{{- define "kubesaga.settingText" -}}
{{- if kindIs "slice" . -}}
{{- join "," . -}}
{{- else if or (kindIs "float64" .) (kindIs "int64" .) (kindIs "int" .) -}}
{{- if eq (floor .) (float64 .) -}}{{- int64 . -}}{{- else -}}{{- . -}}{{- end -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end -}}

{{- /* Refuses what would name a variable or a volume twice: server-side apply rejects such objects with a far worse message. */ -}}
{{- define "kubesaga.checkExtras" -}}
{{- $taken := dict -}}
{{- if .Values.apiServer.host -}}
{{- $_ := set $taken "KUBERNETES_SERVICE_HOST" "apiServer.host" -}}
{{- $_ := set $taken "KUBERNETES_SERVICE_PORT" "apiServer.port" -}}
{{- end -}}
{{- if .Values.pythonPath -}}{{- $_ := set $taken "PYTHONPATH" "pythonPath" -}}{{- end -}}
{{- range $index, $variable := .Values.extraEnv -}}
{{- if hasPrefix "KUBESAGA_" $variable.name -}}
{{- fail (printf "extraEnv[%d].name: %s belongs to the operator's settings; use the value settings.%s, or watchNamespaces for KUBESAGA_NAMESPACES" $index $variable.name ($variable.name | trimPrefix "KUBESAGA_" | lower | camelcase | untitle)) -}}
{{- end -}}
{{- if hasKey $taken $variable.name -}}
{{- fail (printf "extraEnv[%d].name: %s is set by %s already; remove one of the two" $index $variable.name (get $taken $variable.name)) -}}
{{- end -}}
{{- $_ := set $taken $variable.name (printf "extraEnv[%d]" $index) -}}
{{- end -}}
{{- $volumes := dict "tmp" "the chart" -}}
{{- range $index, $volume := .Values.extraVolumes -}}
{{- if hasKey $volumes $volume.name -}}
{{- fail (printf "extraVolumes[%d].name: %s is the name of a volume of %s already; choose another name" $index $volume.name (get $volumes $volume.name)) -}}
{{- end -}}
{{- $_ := set $volumes $volume.name (printf "extraVolumes[%d]" $index) -}}
{{- end -}}
{{- $mounts := dict "/tmp" "the chart" -}}
{{- range $index, $mount := .Values.extraVolumeMounts -}}
{{- if not (hasKey $volumes $mount.name) -}}
{{- fail (printf "extraVolumeMounts[%d].name: there is no volume %s; add it to extraVolumes" $index $mount.name) -}}
{{- end -}}
{{- if hasKey $mounts $mount.mountPath -}}
{{- fail (printf "extraVolumeMounts[%d].mountPath: %s is mounted by %s already; choose another path" $index $mount.mountPath (get $mounts $mount.mountPath)) -}}
{{- end -}}
{{- $_ := set $mounts $mount.mountPath (printf "extraVolumeMounts[%d]" $index) -}}
{{- end -}}
{{- end -}}

{{- /* The operator's environment. */ -}}
{{- define "kubesaga.env" -}}
- name: KUBESAGA_IDENTITY
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: KUBESAGA_LEASE_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
{{- with .Values.watchNamespaces }}
- name: KUBESAGA_NAMESPACES
  value: {{ join "," . | quote }}
{{- end }}
{{- with .Values.watchableKinds }}
{{- $kinds := list }}
{{- range . }}{{ $kinds = append $kinds (printf "%s/%s" .apiVersion .kind) }}{{ end }}
- name: KUBESAGA_WATCHABLE_KINDS
  value: {{ join "," $kinds | quote }}
{{- end }}
{{- range $key, $value := .Values.settings }}
- name: KUBESAGA_{{ $key | snakecase | upper }}
  value: {{ include "kubesaga.settingText" $value | quote }}
{{- end }}
{{- with .Values.apiServer.host }}
- name: KUBERNETES_SERVICE_HOST
  value: {{ . | quote }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ $.Values.apiServer.port | int | quote }}
{{- end }}
{{- with .Values.pythonPath }}
- name: PYTHONPATH
  value: {{ join ":" . | quote }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}
