{{/* SPDX-License-Identifier: Apache-2.0 */}}

{{- define "postcopyd.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "postcopyd.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "postcopyd.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "postcopyd.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* (dict "root" $ "component" NAME) */}}
{{- define "postcopyd.selectorLabels" -}}
app.kubernetes.io/name: {{ include "postcopyd.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{- define "postcopyd.labels" -}}
{{ include "postcopyd.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "postcopyd.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "postcopyd.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* (dict "image" IMAGE "tag" TAG_WHERE_THE_IMAGE_HAS_NONE) */}}
{{- define "postcopyd.imageName" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (default .tag .image.tag) -}}
{{- end -}}
{{- end -}}

{{/* What every container is: nobody in particular, without rights. (dict "user" UID) */}}
{{- define "postcopyd.securityContext" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
runAsNonRoot: true
runAsUser: {{ .user }}
runAsGroup: {{ .user }}
{{- end -}}

{{- define "postcopyd.podSecurityContext" -}}
fsGroup: {{ .Values.group }}
fsGroupChangePolicy: OnRootMismatch
supplementalGroups: [{{ .Values.group }}]
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* (dict "probe" PROBE "path" PATH) */}}
{{- define "postcopyd.probe" -}}
httpGet:
  path: {{ .path }}
  port: postcopyd-http
{{ toYaml .probe }}
{{- end -}}
