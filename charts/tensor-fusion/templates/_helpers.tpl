{{- define "tensor-fusion.labels" -}}
app.kubernetes.io/name: tensor-fusion
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "tensor-fusion.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{/* Where the API server is, for pods that cannot use the address that Kubernetes gives them. */}}
{{- define "tensor-fusion.api" -}}
{{- with .Values.kubernetesApi.host }}
- {name: KUBERNETES_SERVICE_HOST, value: {{ . | quote }}}
{{- end }}
{{- with .Values.kubernetesApi.port }}
- {name: KUBERNETES_SERVICE_PORT, value: {{ . | quote }}}
{{- end }}
{{- end }}

{{/* Resources of no node by which a pod asks for parts of a card (HAMi's), as a list in CEL. */}}
{{- define "tensor-fusion.resources" -}}
{{- $names := list "nvidia.com/gpumem" "nvidia.com/gpumem-percentage" "nvidia.com/gpucores" "nvidia.com/priority"
    "volcano.sh/vgpu-number" "volcano.sh/vgpu-memory" "volcano.sh/vgpu-cores" "amd.com/gpumem" "amd.com/gpucores"
    "hygon.com/dcunum" "hygon.com/dcumem" "hygon.com/dcucores" "cambricon.com/vmlu"
    "cambricon.com/mlu.smlu.vmemory" "cambricon.com/mlu.smlu.vcore" "metax-tech.com/sgpu" "metax-tech.com/vmemory"
    "metax-tech.com/vcore" "mthreads.com/vgpu" "mthreads.com/sgpu-memory" "mthreads.com/sgpu-core"
    "kunlunxin.com/vxpu" "kunlunxin.com/vxpu-memory" "huawei.com/Ascend910A" "huawei.com/Ascend910A-memory"
    "huawei.com/Ascend910A-core" "huawei.com/Ascend910B2" "huawei.com/Ascend910B2-memory"
    "huawei.com/Ascend910B2-core" "huawei.com/Ascend910B3" "huawei.com/Ascend910B3-memory"
    "huawei.com/Ascend910B3-core" "huawei.com/Ascend910B4" "huawei.com/Ascend910B4-memory"
    "huawei.com/Ascend910B4-core" "huawei.com/Ascend910B4-1" "huawei.com/Ascend910B4-1-memory"
    "huawei.com/Ascend910B4-1-core" "huawei.com/Ascend310P" "huawei.com/Ascend310P-memory"
    "huawei.com/Ascend310P-core" "huawei.com/Ascend910C" "huawei.com/Ascend910C-memory"
    "huawei.com/Ascend910C-core" "iluvatar.ai/MR-V100-vgpu" "iluvatar.ai/MR-V100.vMem" "iluvatar.ai/MR-V100.vCore"
    "iluvatar.ai/MR-V50-vgpu" "iluvatar.ai/MR-V50.vMem" "iluvatar.ai/MR-V50.vCore" "iluvatar.ai/BI-V150-vgpu"
    "iluvatar.ai/BI-V150.vMem" "iluvatar.ai/BI-V150.vCore" "iluvatar.ai/BI-V100-vgpu" "iluvatar.ai/BI-V100.vMem"
    "iluvatar.ai/BI-V100.vCore" }}
{{- if .Values.webhook.progressiveMigration }}{{ $names = append $names "nvidia.com/gpu" }}{{ end -}}
[{{ range $index, $name := $names }}{{ if $index }}, {{ end }}'{{ $name }}'{{ end }}]
{{- end }}

{{/* Strings as a list in CEL. */}}
{{- define "tensor-fusion.strings" -}}
[{{ range $index, $one := . }}{{ if $index }}, {{ end }}'{{ $one }}'{{ end }}]
{{- end }}

{{/* Keys of a domain as a list in CEL, from the domain and the names. */}}
{{- define "tensor-fusion.keys" -}}
{{- $domain := first . -}}
[{{ range $index, $name := last . }}{{ if $index }}, {{ end }}'{{ $domain }}/{{ $name }}'{{ end }}]
{{- end }}

{{/* Where a node's agent and its keeper meet. */}}
{{- define "tensor-fusion.keeper" -}}
{{ .Values.keeper.folder }}/keeper.sock
{{- end }}

{{/* What the parts that open GPUs have in common: environment, folders of the node, and the nodes. */}}
{{- define "tensor-fusion.driver" -}}
{{- with .Values.hypervisor.driverFolder }}
- {name: LD_LIBRARY_PATH, value: /driver}
{{- end }}
{{- with .Values.hypervisor.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "tensor-fusion.mounts" -}}
- {name: keeper, mountPath: {{ .Values.keeper.folder | quote }}}
- {name: sockets, mountPath: {{ .Values.hypervisor.socketFolder | quote }}}
{{- if .Values.hypervisor.driverFolder }}
- {name: driver, mountPath: /driver, readOnly: true}
{{- end }}
{{- end }}

{{- define "tensor-fusion.volumes" -}}
- name: keeper
  hostPath: {path: {{ .Values.keeper.folder | quote }}, type: DirectoryOrCreate}
- name: sockets
  hostPath: {path: {{ .Values.hypervisor.socketFolder | quote }}, type: DirectoryOrCreate}
{{- with .Values.hypervisor.driverFolder }}
- name: driver
  hostPath: {path: {{ . | quote }}, type: Directory}
{{- end }}
{{- end }}

{{- define "tensor-fusion.places" -}}
{{- with .Values.hypervisor.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.hypervisor.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.hypervisor.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
