{{- /* SPDX-License-Identifier: Apache-2.0 */ -}}

{{- /* What the operator may do in each namespace that it serves: the same list for a ClusterRole and for Roles. */ -}}
{{- define "kubesaga.operatorRules" -}}
- apiGroups: [kubesaga.dev]
  resources: [workflows]
  verbs: [get, list, watch, patch]
- apiGroups: [kubesaga.dev]  # create: what schedules start; delete: finished runs, when they have been kept as long as their Workflow says
  resources: [workflowruns]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [kubesaga.dev]
  resources: [workfloweventsources]
  verbs: [get, list, watch]
- apiGroups: [kubesaga.dev]  # delete: some clusters ask for it where an owner reference is set (OwnerReferencesPermissionEnforcement)
  resources: [workflowactions]
  verbs: [get, list, watch, patch, delete]
{{ include "kubesaga.catalogueRules" . }}
- apiGroups: [kubesaga.dev]
  resources: [workflows/status, workflowruns/status, workflowactions/status, activities/status, workfloweventsources/status]
  verbs: [get, patch]
- apiGroups: [kubesaga.dev]  # owner references that block the owner's deletion
  resources: [workflowruns/finalizers]
  verbs: [update]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]  # http activities reach Services of the run's own namespace
  resources: [services, endpoints]
  verbs: [get]
- apiGroups: [""]
  resources: [events]
  verbs: [get, create, patch]
- apiGroups: [apps]
  resources: [controllerrevisions]
  verbs: [get, list, create, delete]
- apiGroups: [""]  # to see that a namespace is going away; in a Role: its own namespace
  resources: [namespaces]
  verbs: [get]
{{- range .Values.watchableKinds }}
- apiGroups: [{{ if contains "/" .apiVersion }}{{ regexReplaceAll "/.*$" .apiVersion "" }}{{ else }}""{{ end }}]  # watchableKinds
  resources: [{{ .resource }}]
  verbs: [get, list, watch]
{{- end }}
{{- end -}}

{{- /* Reading Activities: also in the catalogue's namespace, where the operator serves none but the ones that it is given. */ -}}
{{- define "kubesaga.catalogueRules" -}}
- apiGroups: [kubesaga.dev]
  resources: [activities]
  verbs: [get, list, watch]
{{- end -}}

{{- /* What people may do; the operator alone writes the status, so no list here holds it for writing. */ -}}
{{- define "kubesaga.viewRules" -}}
- apiGroups: [kubesaga.dev]
  resources: [workflows, workflowruns, workflowactions, activities, workfloweventsources]
  verbs: [get, list, watch]
- apiGroups: [kubesaga.dev]
  resources: [workflows/status, workflowruns/status, workflowactions/status, activities/status, workfloweventsources/status]
  verbs: [get]
{{- end -}}

{{- define "kubesaga.editRules" -}}
{{ include "kubesaga.viewRules" . }}
- apiGroups: [kubesaga.dev]
  resources: [workflows, workflowruns, activities, workfloweventsources]
  verbs: [create, update, patch, delete]
- apiGroups: [kubesaga.dev]  # a record of what was asked for: nobody changes it
  resources: [workflowactions]
  verbs: [create]
{{- end -}}

{{- define "kubesaga.adminRules" -}}
{{ include "kubesaga.editRules" . }}
- apiGroups: [kubesaga.dev]
  resources: [workflows, workflowruns, activities, workfloweventsources]
  verbs: [deletecollection]
- apiGroups: [kubesaga.dev]
  resources: [workflowactions]
  verbs: [delete, deletecollection]
{{- end -}}
