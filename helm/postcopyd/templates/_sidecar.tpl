{{/* SPDX-License-Identifier: Apache-2.0 */}}

{{/*
For other charts, which have this one among their dependencies: what a pod needs to have postcopyd
beside its QEMU. Each takes a dictionary:

  root       the context of this chart: $.Subcharts.postcopyd
  sockets    the directory of the sockets; QEMU's monitor is monitor.sock in it, postcopyd's own is qmp.sock
  snapshots  the directory of the snapshot
  file       the snapshot's name in it, or nothing
  readOnly   whether the directory is only read

postcopyd.sidecar.container    an item of initContainers; mounts the volumes postcopyd-sockets and postcopyd-snapshots
postcopyd.sidecar.volumes      items of volumes: postcopyd-sockets; (dict "claim" NAME) adds postcopyd-snapshots
postcopyd.sidecar.podSecurityContext   the shared group

QEMU needs `-incoming defer -qmp unix:SOCKETS/monitor.sock,server=on,wait=off`, a umask of 0007, and a userfaultfd.
*/}}

{{/* postcopyd's container without what makes it a sidecar. (dict "root" $ "args" LIST "mounts" LIST "command" LIST) */}}
{{- define "postcopyd.container" -}}
{{- $values := .root.Values -}}
{{- $sidecar := $values.sidecar -}}
name: postcopyd
image: {{ include "postcopyd.imageName" (dict "image" $values.image "tag" .root.Chart.AppVersion) | quote }}
imagePullPolicy: {{ $values.image.pullPolicy }}
{{- with .command }}
command:
  {{- toYaml . | nindent 2 }}
{{- end }}
args:
  {{- range .args }}
  - {{ . | quote }}
  {{- end }}
  - --http
  - {{ printf "%s:%v" $sidecar.http.host $sidecar.http.port | quote }}
  - --log
  - {{ $sidecar.log.format }}
  - --log-level
  - {{ $sidecar.log.level }}
  {{- if $sidecar.eagerThreads }}
  - --eager-threads
  - {{ $sidecar.eagerThreads | quote }}
  {{- end }}
  {{- if $sidecar.exitOnError }}
  - --exit-on-error
  {{- end }}
  {{- with $sidecar.workingSet }}
  - --working-set
  - {{ . | quote }}
  {{- end }}
  {{- range $sidecar.extraArgs }}
  - {{ . | quote }}
  {{- end }}
{{- with $sidecar.javaOptions }}
env:
  - name: JDK_JAVA_OPTIONS
    value: {{ . | quote }}
{{- end }}
ports:
  - name: postcopyd-http
    containerPort: {{ $sidecar.http.port }}
    protocol: TCP
startupProbe:
  {{- /* It takes a load from then on. QEMU is only started after this: its monitor is waited for, not asked for. */}}
  {{- include "postcopyd.probe" (dict "probe" $sidecar.startupProbe "path" "/readyz") | nindent 2 }}
livenessProbe:
  {{- include "postcopyd.probe" (dict "probe" $sidecar.livenessProbe "path" "/healthz") | nindent 2 }}
readinessProbe:
  {{- include "postcopyd.probe" (dict "probe" $sidecar.readinessProbe "path" "/readyz") | nindent 2 }}
securityContext:
  {{- include "postcopyd.securityContext" (dict "user" $sidecar.runAsUser) | nindent 2 }}
resources:
  {{- toYaml $sidecar.resources | nindent 2 }}
volumeMounts:
  {{- toYaml .mounts | nindent 2 }}
{{- end -}}

{{- define "postcopyd.sidecar.container" -}}
{{- $values := .root.Values -}}
{{- $qmp := printf "unix:%s/qmp.sock,mode=%s,group=%v" .sockets $values.sidecar.qmpMode $values.group -}}
{{- $args := list "run" "--qmp" $qmp "--guest" (printf "qemu:%s/monitor.sock" .sockets) -}}
{{- if .file -}}
{{- $args = concat $args (list "--incoming" (printf "file:%s/%s" .snapshots .file)) -}}
{{- end -}}
{{- $snapshots := dict "name" "postcopyd-snapshots" "mountPath" .snapshots -}}
{{- if .readOnly -}}
{{- $snapshots = set $snapshots "readOnly" true -}}
{{- end -}}
{{- $mounts := list (dict "name" "postcopyd-sockets" "mountPath" .sockets) $snapshots -}}
{{ include "postcopyd.container" (dict "root" .root "args" $args "mounts" $mounts) }}
restartPolicy: Always
{{- end -}}

{{- define "postcopyd.sidecar.volumes" -}}
- name: postcopyd-sockets
  emptyDir:
    medium: Memory
    sizeLimit: 16Mi
{{- with .claim }}
- name: postcopyd-snapshots
  persistentVolumeClaim:
    claimName: {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "postcopyd.sidecar.podSecurityContext" -}}
{{ include "postcopyd.podSecurityContext" .root }}
{{- end -}}
