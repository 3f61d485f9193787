{{/*
The object in a file, as kustomize makes it: in the release's namespace unless it has none, with the common labels.
*/}}
{{- define "netpold.object" -}}
{{- $object := .root.Files.Get .file | fromYaml }}
{{- if not (hasPrefix "Cluster" $object.kind) }}
{{- $_ := set $object.metadata "namespace" .root.Release.Namespace }}
{{- end }}
{{- $labels := include "netpold.labels" .root | fromYaml }}
{{- $_ := set $object.metadata "labels" (merge $labels ($object.metadata.labels | default dict)) }}
{{- toYaml $object }}
{{- end }}

{{/*
A ClusterRoleBinding of a file, for the account in the release's namespace.
*/}}
{{- define "netpold.binding" -}}
{{- $binding := include "netpold.object" . | fromYaml }}
{{- range $binding.subjects }}
{{- $_ := set . "namespace" $.root.Release.Namespace }}
{{- end }}
{{- toYaml $binding }}
{{- end }}

{{- define "netpold.labels" -}}
app.kubernetes.io/name: netpold
app.kubernetes.io/component: network-policy
{{- end }}

{{/*
The image. A tag of digits alone is a number, and in a file a float64, which would print as 2.0261122e+07.
*/}}
{{- define "netpold.image" -}}
{{- with .Values.image -}}
{{- $tag := kindIs "string" .tag | ternary .tag (int64 .tag) -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else if $tag }}:{{ $tag }}{{ end }}
{{- end }}
{{- end }}
