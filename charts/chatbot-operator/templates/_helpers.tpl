{{- define "chatbot-operator.name" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains "chatbot-operator" .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-chatbot-operator" .Release.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{/* Of what is not in the release's namespace alone: two releases of one name must not meet there. */}}
{{- define "chatbot-operator.clusterName" -}}
{{ .Release.Namespace }}:{{ include "chatbot-operator.name" . }}
{{- end }}

{{- define "chatbot-operator.serviceAccount" -}}
{{ .Values.serviceAccount.name | default (include "chatbot-operator.name" .) }}
{{- end }}

{{- define "chatbot-operator.selector" -}}
app.kubernetes.io/name: chatbot-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Of the pod that `helm test` runs: neither the Service nor the Deployment may take it for the operator's. */}}
{{- define "chatbot-operator.testSelector" -}}
app.kubernetes.io/name: chatbot-operator-test
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "chatbot-operator.labels" -}}
{{ include "chatbot-operator.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* An image reference from {repository, tag, digest}; a digest wins. */}}
{{- define "chatbot-operator.image" -}}
{{- if .image.digest }}{{ .image.repository }}@{{ .image.digest }}{{ else }}{{ .image.repository }}:{{ .image.tag | default .appVersion }}{{ end }}
{{- end }}
