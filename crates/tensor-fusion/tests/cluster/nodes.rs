//! The cluster itself: nodes, containers, logs, and the network between pods.

use libtest_mimic::Failed;

use super::case::{Case, case};
use super::kubernetes::{PROGRAMS, apply, get, kubectl};
use super::pods;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("cluster::both_nodes_are_ready", both_nodes_are_ready).without_system().on_nodes(),
        case("cluster::pods_reach_the_api_server_and_each_other", pods_reach_the_api_server_and_each_other)
            .without_system()
            .on_nodes(),
    ]
}

fn both_nodes_are_ready() -> Result<(), Failed> {
    let nodes = get("nodes")?;
    let nodes = nodes["items"].as_array().ok_or("no list of nodes")?;
    assert_eq!(nodes.len(), 2, "{nodes:?}");
    for node in nodes {
        let conditions = node["status"]["conditions"].as_array().ok_or("a node without conditions")?;
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready").ok_or("no condition Ready")?;
        assert_eq!(ready["status"], "True", "{node}");
    }
    Ok(())
}

fn pods_reach_the_api_server_and_each_other() -> Result<(), Failed> {
    let pod = |name: &str, node: &str, script: &str| {
        format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  nodeName: {node}
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: {PROGRAMS}
    imagePullPolicy: Never
    command: [/bin/busybox, sh, -c, '{script}']
"
        )
    };
    apply(&pod(
        "network-server",
        "node-1",
        "mkdir /tmp/www; echo hello from node-1 > /tmp/www/index.html; exec /bin/busybox httpd -f -p 8000 -h /tmp/www",
    ))?;
    let address =
        pods::running("default", "network-server")?["status"]["podIP"].as_str().unwrap_or_default().to_owned();
    let script = format!(
        "until /bin/busybox wget -q -O - http://{address}:8000/; do sleep 1; done; \
         /bin/busybox nc -w 5 $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT < /dev/null && echo api"
    );
    apply(&pod("network-client", "node-2", &script))?;
    let log = pods::finished("default", "network-client")?;
    assert_eq!(log, "hello from node-1\napi\n");
    kubectl("delete pod network-server network-client --now")?;
    Ok(())
}
