"""Our rules for the manifests: each check takes all documents and returns what is wrong, one sentence per problem."""

from __future__ import annotations

import re
from collections.abc import Callable

from hedgespec.config import AppArgs, DrafterConfig, RouterConfig, TargetConfig
from tests.k8s.manifests import Doc, PodTemplate, app_args, cluster_config, only, pod_templates, serve_config

NODE_LABEL = "hedgespec/role"
SAFE_VOLUMES = {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret", "downwardAPI"}

Check = Callable[[list[Doc]], list[str]]


def deployments_are_pinned_to_their_own_worker_group(docs: list[Doc]) -> list[str]:
    """Each `node_label` names exactly one group, each group is named once, and nothing may land on the head."""
    problems = []
    roles = [group["labels"].get(NODE_LABEL) for group in cluster_config(docs)["workerGroupSpecs"]]
    args = AppArgs.model_validate(app_args(docs))
    wanted = {"router": args.router.node_label, "target": args.target.node_label}
    for drafter in args.drafters:
        name = f"drafter {drafter.group or drafter.id}"  # one deployment for all drafters of a group
        if wanted.setdefault(name, drafter.node_label) != drafter.node_label:
            problems.append(f"{name}: its drafters name different node labels")
    for name, label in wanted.items():
        if roles.count(label) != 1:
            problems.append(f"{name}: node_label {label!r} fits {roles.count(label)} worker groups, expected 1")
    for role in roles:
        if list(wanted.values()).count(role) != 1:
            problems.append(
                f"worker group with {NODE_LABEL}={role} is used by {list(wanted.values()).count(role)} deployments"
            )
    return problems


def model_pods_hold_one_replica(docs: list[Doc]) -> list[str]:
    """A `device: cuda` group has one GPU, others none; a CPU group has one replica's CPUs: fixed ports never clash."""
    problems = []
    args = AppArgs.model_validate(app_args(docs))
    pods = {pod.labels[NODE_LABEL]: pod for pod in pod_templates(docs) if NODE_LABEL in pod.labels}
    for model in (args.target, *args.drafters, args.router):
        pod = pods.get(model.node_label or "")
        if pod is None:
            continue
        resources = pod.spec["containers"][0]["resources"]
        num_gpus = int(resources["limits"].get("nvidia.com/gpu", 0))
        on_gpu = not isinstance(model, RouterConfig) and model.device == "cuda"
        if num_gpus != (1 if on_gpu else 0):
            problems.append(f"group {pod.name}: {num_gpus} GPUs in its limits, expected {int(on_gpu)}")
        if on_gpu and model.gpus != 1:
            problems.append(
                f"group {pod.name}: a replica takes {model.gpus} of its GPU, so {1 / model.gpus:g} share a port"
            )
        if not on_gpu and float(resources["requests"]["cpu"]) != model.cpus:
            problems.append(f"group {pod.name}: {resources['requests']['cpu']} CPUs, a replica takes {model.cpus:g}")
    return problems


def pods_can_follow_replicas(docs: list[Doc]) -> list[str]:
    """A group's minReplicas and maxReplicas are its deployment's, so that no replica waits for a pod that cannot come."""
    problems = []
    args = AppArgs.model_validate(app_args(docs))
    groups = {group["labels"][NODE_LABEL]: group for group in cluster_config(docs)["workerGroupSpecs"]}
    for model in (args.target, *args.drafters, args.router):
        group, replicas = groups.get(model.node_label or ""), model.replicas
        if group is None:
            continue
        bounds = (replicas, replicas) if isinstance(replicas, int) else (replicas.min_replicas, replicas.max_replicas)
        if (group["minReplicas"], group["maxReplicas"]) != bounds:
            problems.append(
                f"group {group['groupName']}: pods {group['minReplicas']}-{group['maxReplicas']}, replicas {bounds}"
            )
    return problems


def the_head_does_no_work(docs: list[Doc]) -> list[str]:
    head = cluster_config(docs)["headGroupSpec"]
    problems = (
        [] if head.get("resources", {}).get("CPU") == "0" else ["the head offers CPUs to Ray; set resources.CPU to '0'"]
    )
    if not only(docs, "RayService")["spec"].get("excludeHeadPodFromServeSvc"):
        problems.append("the head may receive requests; set excludeHeadPodFromServeSvc")
    return problems


def no_secret_is_written_down(docs: list[Doc]) -> list[str]:
    """serveConfigV2, environments and config maps are stored and logged in the clear."""
    secret = re.compile(
        r"://[^/\s:@]*:[^/\s@]+@"  # a password inside a URL
        r"|\bsk-[A-Za-z0-9_-]{8,}"  # an API key
        r"|(?i:password|passwd|secret|token|api_?key)['\"]?\s*[:=]\s*['\"]?[^\s'\"{}\[\],/]{4,}"
    )
    problems = []
    texts = {"serveConfigV2": only(docs, "RayService")["spec"]["serveConfigV2"]}
    for doc in docs:
        if doc["kind"] == "Secret":
            problems.append(f"Secret {doc['metadata']['name']} is in the repository")
        if doc["kind"] == "ConfigMap":
            texts |= {f"ConfigMap {doc['metadata']['name']}/{key}": text for key, text in doc["data"].items()}
    for pod in pod_templates(docs):
        for container in pod.containers:
            texts |= {
                f"{pod.name} env {entry['name']}": f"{entry['name']}={entry.get('value', '')}"
                for entry in container.get("env", [])
            }
    for where, text in texts.items():
        problems += [
            f"{where} seems to hold a secret near character {match.start()}" for match in secret.finditer(text)
        ]
    return problems


def pods_are_restricted(docs: list[Doc]) -> list[str]:
    """Pod Security `restricted`, plus a read-only root and no host access; the namespace enforces it."""
    problems = []
    for doc in docs:
        labels = doc["metadata"].get("labels", {})
        if doc["kind"] == "Namespace" and labels.get("pod-security.kubernetes.io/enforce") != "restricted":
            problems.append("the namespace does not enforce Pod Security restricted")
    for pod in pod_templates(docs):
        problems += [f"{pod.name}: {problem}" for problem in _restricted(pod)]
    autoscaler = cluster_config(docs)["autoscalerOptions"]
    problems += [f"autoscaler: {problem}" for problem in _restricted_container(autoscaler)]
    return problems


def only_the_head_may_talk_to_kubernetes(docs: list[Doc]) -> list[str]:
    """Every other pod runs under an account of ours, without its token."""
    problems = []
    accounts = {doc["metadata"]["name"]: doc for doc in docs if doc["kind"] == "ServiceAccount"}
    used = set()
    for pod in pod_templates(docs):
        if pod.component == "head":
            continue
        name = pod.spec.get("serviceAccountName")
        used.add(name)
        if name not in accounts:
            problems.append(f"{pod.name}: service account {name!r} is not in these manifests")
        if pod.spec.get("automountServiceAccountToken") is not False:
            problems.append(f"{pod.name}: the account's token is mounted")
    problems += [f"service account {name} is used by nothing" for name in sorted(accounts.keys() - used)]
    problems += [
        f"{doc['kind']} {doc['metadata']['name']}: nothing of ours needs rights"
        for doc in docs
        if "Role" in doc["kind"]
    ]
    return problems


def memory_limits_equal_requests(docs: list[Doc]) -> list[str]:
    """A pod that may use more memory than it asked for is killed at someone else's busiest moment."""
    return [
        f"{pod.name}/{container['name']}: memory request and limit differ"
        for pod in pod_templates(docs)
        for container in pod.containers
        if container["resources"]["requests"]["memory"] != container["resources"].get("limits", {}).get("memory")
    ]


def deadlines_are_nested(docs: list[Doc], graceful_shutdown_s: dict[str, float]) -> list[str]:
    """request < Serve's HTTP deadline <= graceful shutdown of a replica < the pod's grace, and the retired cluster's life.

    graceful_shutdown_s: of the deployments that an answer cannot do without, router and target.
    """
    problems = []
    args = AppArgs.model_validate(app_args(docs))
    request_s, http_s = args.limits.request_timeout_s, serve_config(docs)["http_options"]["request_timeout_s"]
    if not request_s < http_s:
        problems.append(f"requests may take {request_s} s, Serve cuts them at {http_s} s")
    pod_s = {
        pod.name: pod.spec["terminationGracePeriodSeconds"]
        for pod in pod_templates(docs)
        if pod.group and pod.name != "head"
    }
    pod_s["the retired cluster"] = only(docs, "RayService")["spec"]["rayClusterDeletionDelaySeconds"]
    for deployment, graceful_s in graceful_shutdown_s.items():
        if graceful_s < http_s:
            problems.append(f"{deployment} is killed after {graceful_s} s, a request may take {http_s} s")
        problems += [
            f"{name}: {s} s of grace, {deployment} needs {graceful_s} s" for name, s in pod_s.items() if s <= graceful_s
        ]
    return problems


def disruption_budgets_allow_drains(docs: list[Doc]) -> list[str]:
    """Router and target keep one pod, and every budget is below the number of pods that always run."""
    problems, kept = [], set()
    pods = pod_templates(docs)
    for doc in docs:
        if doc["kind"] != "PodDisruptionBudget":
            continue
        selected = [pod for pod in pods if doc["spec"]["selector"]["matchLabels"].items() <= pod.labels.items()]
        kept |= {pod.component for pod in selected}
        num_pods = sum(pod.group["minReplicas"] if pod.group else 1 for pod in selected)
        minimum = doc["spec"].get("minAvailable")
        if not isinstance(minimum, int) or minimum < 1:
            problems.append(
                f"{doc['metadata']['name']}: pods of a RayCluster need an integer minAvailable of at least 1"
            )
        elif minimum >= num_pods:
            problems.append(f"{doc['metadata']['name']}: minAvailable {minimum} of {num_pods} pods blocks every drain")
    return problems + [f"{name} has no disruption budget" for name in sorted({"router", "target"} - kept)]


def ray_is_fault_tolerant_and_closed(docs: list[Doc]) -> list[str]:
    """Ray needs token authentication, the head's state in a Redis of its own, and one group with a port `serve`."""
    problems = []
    cluster = cluster_config(docs)
    if cluster.get("authOptions", {}).get("mode") != "token":
        problems.append("authOptions.mode is not token: the dashboard would run anyone's code")
    options = cluster.get("gcsFaultToleranceOptions", {})
    if "secretKeyRef" not in options.get("redisPassword", {}).get("valueFrom", {}):
        problems.append("gcsFaultToleranceOptions takes no password from a Secret")
    learner_host = (AppArgs.model_validate(app_args(docs)).store.url or "").split("@")[-1].split(":")[0]
    if options.get("redisAddress", "").split(":")[0] == learner_host:
        problems.append("Ray and the learner share one Redis")
    ports = [
        port["name"]
        for group in cluster["workerGroupSpecs"]
        for port in group["template"]["spec"]["containers"][0]["ports"]
    ]
    if ports.count("serve") != 1:
        problems.append("only the router group may name a port `serve`: the Service finds its pods by it")
    return problems


def fixed_ports_match(docs: list[Doc], port: int) -> list[str]:
    """The gRPC port of every model deployment is the one that pods declare and the network policies open."""
    args = AppArgs.model_validate(app_args(docs))
    models: tuple[TargetConfig | DrafterConfig, ...] = (args.target, *args.drafters)
    problems = [f"{model.node_label}: port {model.port}, expected {port}" for model in models if model.port != port]
    for pod in pod_templates(docs):
        if pod.component in {"target", "drafter"}:
            declared = {entry["name"]: entry["containerPort"] for entry in pod.spec["containers"][0]["ports"]}
            if declared.get("rounds") != port:
                problems.append(f"group {pod.name}: containerPort rounds is {declared.get('rounds')}, expected {port}")
    return problems


def _restricted(pod: PodTemplate) -> list[str]:
    security = pod.spec.get("securityContext", {})
    problems = []
    if security.get("runAsNonRoot") is not True or security.get("runAsUser", 0) < 10000:
        problems.append("must run as a user of at least 10000 with runAsNonRoot")
    if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        problems.append("seccompProfile is not RuntimeDefault")
    problems += [f"{key} is set" for key in ("hostNetwork", "hostPID", "hostIPC") if pod.spec.get(key)]
    for volume in pod.spec.get("volumes", []):
        if not (volume.keys() - {"name"}) <= SAFE_VOLUMES:
            problems.append(f"volume {volume['name']} is of a type that reaches the host")
    for container in pod.containers:
        problems += [f"{container['name']}: {problem}" for problem in _restricted_container(container)]
    return problems


def _restricted_container(container: Doc) -> list[str]:
    security = container.get("securityContext", {})
    problems = []
    if security.get("allowPrivilegeEscalation") is not False:
        problems.append("privilege escalation is allowed")
    if security.get("capabilities") != {"drop": ["ALL"]}:
        problems.append("capabilities are not dropped")
    if security.get("readOnlyRootFilesystem") is not True:
        problems.append("the root file system is writable")
    if security.get("privileged"):
        problems.append("is privileged")
    problems += [f"hostPort {port['hostPort']} is used" for port in container.get("ports", []) if "hostPort" in port]
    return problems
