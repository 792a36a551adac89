{{- define "operator.name" -}}
{{ printf "%s-operator" .Release.Name | trunc 63 }}
{{- end }}

{{- define "operator.selector" -}}
app.kubernetes.io/name: modelrelease-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "operator.labels" -}}
{{ include "operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* What the operator does in a namespace whose ModelReleases it carries out. */}}
{{- define "operator.rules" -}}
- apiGroups: [modelrelease.dev]
  resources: [modelreleases, modelcontracts]
  verbs: [get, list, watch]
- apiGroups: [modelrelease.dev]
  resources: [releasedecisions]
  verbs: [list, watch]
- apiGroups: [modelrelease.dev]
  resources: [modelreleases/status, releasedecisions/status]
  verbs: [patch]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [controllerrevisions]
  verbs: [get, list, create, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch, delete]
# What each gate was left on, for the history; never read again.
- apiGroups: [""]
  resources: [configmaps]
  verbs: [list, create, delete]
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, list, watch, create, patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{ include "operator.gatewayRules" . }}
{{- end }}

{{/* What it looks at in a namespace where Gateways stand. */}}
{{- define "operator.gatewayRules" -}}
- apiGroups: [gateway.networking.k8s.io]
  resources: [gateways]
  verbs: [get]
{{- end }}
