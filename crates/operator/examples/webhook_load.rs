//! The webhook alone, without a cluster: how fast it answers 1,000 questions a second, and what CPU time an answer needs. For
//! whoever works on the webhook; `make bench` measures the same beside a control plane.
#![expect(clippy::print_stdout, reason = "a program for people")]

#[path = "cluster_scale/webhook.rs"]
mod webhook;

use std::io::Read as _;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use operator::webhook::certificate::{self, Certificate};
use serde_json::{Value, json};

const ADDRESS: &str = "127.0.0.1:19444";

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The process that answers, which ends with us.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn main() -> Result<(), Failure> {
    if std::env::args().nth(1).as_deref() == Some("serve") {
        return serve();
    }
    let mut child = Command::new(std::env::current_exe()?).arg("serve").stdout(Stdio::piped()).spawn()?;
    let output = child.stdout.take();
    let server = Server(child);
    let mut authorities = vec![0; 1 << 16];
    let count = output.ok_or("the server has no output")?.read(&mut authorities)?;
    authorities.truncate(count);
    let webhook = webhook::Webhook { address: ADDRESS.parse()?, authorities, process: server.0.id() };
    let start = Instant::now();
    while TcpStream::connect(ADDRESS).is_err() {
        if start.elapsed() > Duration::from_secs(10) {
            return Err("the webhook does not listen".into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let pods: Vec<Value> = (0..8).map(pod).collect();
    let (empty, asked) = webhook.time(&pods)?;
    println!("a path that there is not: {empty}\na pod that asks: {asked}");
    Ok(())
}

/// Prints whom to trust, and serves.
fn serve() -> Result<(), Failure> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs();
    let certificate = Certificate::make(&["127.0.0.1".to_owned()], i64::try_from(now)?)?;
    println!("{}", certificate.authorities);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let tls = certificate::tls(&certificate).await?;
        let webhook = Arc::new(operator::webhook::Webhook::default());
        Ok(operator::webhook::serve(ADDRESS.parse()?, tls, webhook).await?)
    })
}

/// A pod of a Deployment, as the API server sends it: with its defaults, and who wrote what.
fn pod(number: usize) -> Value {
    let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "asks-6d4cf56db6", "controller": true,
        "uid": "1f6f4a55-6c5e-4ec1-a3a5-ab2d3b7f1c11", "blockOwnerDeletion": true});
    let token = json!({"name": "kube-api-access-x7k2p", "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}});
    let fields = json!({"f:metadata": {"f:annotations": {".": {}, "f:tensor-fusion.ai/tflops-request": {}},
        "f:generateName": {}, "f:labels": {".": {}, "f:app": {}, "f:pod-template-hash": {}}, "f:ownerReferences": {".": {}}},
        "f:spec": {"f:containers": {"k:{\"name\":\"main\"}": {".": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:name": {},
        "f:resources": {".": {}, "f:requests": {".": {}, "f:cpu": {}, "f:memory": {}}}, "f:terminationMessagePath": {},
        "f:terminationMessagePolicy": {}}}, "f:dnsPolicy": {}, "f:enableServiceLinks": {}, "f:restartPolicy": {},
        "f:schedulerName": {}, "f:securityContext": {}, "f:terminationGracePeriodSeconds": {}}});
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {
            "generateName": "asks-6d4cf56db6-", "namespace": "scale", "uid": "8c7d3c64-9d0f-4b3e-9e57-60e55c1a9b0e",
            "creationTimestamp": "2026-01-01T00:00:00Z", "ownerReferences": [owner],
            "labels": {"app": "asks", "pod-template-hash": "6d4cf56db6", "tensor-fusion.ai/enabled": "true"},
            "annotations": {
                "tensor-fusion.ai/tflops-request": format!("{}", 50 + 50 * number), "tensor-fusion.ai/inject-container": "main",
                "tensor-fusion.ai/vram-request": format!("{}Gi", 4 + 4 * number), "tensor-fusion.ai/is-local-gpu": "true",
            },
            "managedFields": [{"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1",
                "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": fields}],
        },
        "spec": {
            "volumes": [token],
            "containers": [{"name": "main", "image": "pause", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
                "volumeMounts": [{"name": "kube-api-access-x7k2p", "readOnly": true,
                    "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}],
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File", "imagePullPolicy": "Always"}],
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
            "serviceAccountName": "default", "serviceAccount": "default", "securityContext": {}, "schedulerName": "default-scheduler",
            "tolerations": [
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
            "priority": 0, "enableServiceLinks": true, "preemptionPolicy": "PreemptLowerPriority",
        },
        "status": {"phase": "Pending", "qosClass": "Burstable"},
    })
}
