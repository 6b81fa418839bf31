//! A device plugin, as a vendor's is: it tells a node's kubelet of cards, and the kubelet gives them to pods that ask for
//! `nvidia.com/gpu` (Kubernetes' device plugin API, `v1beta1`).

use std::convert::Infallible;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt as _;
use prost::Message;
use tokio::net::UnixListener;
use tonic::body::Body;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::http::{Request, Response};
use tonic::server::{Grpc, NamedService};
use tonic::transport::{Endpoint, Server};
use tonic::{Status, transport};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

use super::kubernetes::{kubeconfig, switch};

const RESOURCE: &str = "nvidia.com/gpu";
const SOCKET: &str = "test-plugin.sock";
const CHECKPOINT: &str = "kubelet_internal_checkpoint";

#[derive(Clone, PartialEq, Message)]
struct Empty {}

#[derive(Clone, PartialEq, Message)]
struct Register {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(string, tag = "2")]
    endpoint: String,
    #[prost(string, tag = "3")]
    resource: String,
}

#[derive(Clone, PartialEq, Message)]
struct Device {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    health: String,
}

#[derive(Clone, PartialEq, Message)]
struct Devices {
    #[prost(message, repeated, tag = "1")]
    devices: Vec<Device>,
}

#[derive(Clone, PartialEq, Message)]
struct Ids {
    #[prost(string, repeated, tag = "1")]
    ids: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Allocate {
    #[prost(message, repeated, tag = "1")]
    containers: Vec<Ids>,
}

#[derive(Clone, PartialEq, Message)]
struct Environment {
    #[prost(map = "string, string", tag = "1")]
    envs: std::collections::HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct Allocated {
    #[prost(message, repeated, tag = "1")]
    containers: Vec<Environment>,
}

#[derive(Clone)]
struct Plugin {
    cards: Arc<Vec<String>>,
}

impl NamedService for Plugin {
    const NAME: &'static str = "v1beta1.DevicePlugin";
}

impl Service<Request<Body>> for Plugin {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let cards = Arc::clone(&self.cards);
        Box::pin(async move {
            let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            Ok(match method.as_str() {
                "GetDevicePluginOptions" => {
                    let answer = |_: tonic::Request<Empty>| async { Ok::<_, Status>(tonic::Response::new(Empty {})) };
                    Grpc::new(ProstCodec::<Empty, Empty>::default()).unary(service_fn(answer), request).await
                }
                "ListAndWatch" => {
                    let answer = move |_: tonic::Request<Empty>| {
                        let device = |id: &String| Device { id: id.clone(), health: "Healthy".to_owned() };
                        let devices = Devices { devices: cards.iter().map(device).collect() };
                        // It stays open: its end is the plugin's.
                        let stream =
                            futures::stream::once(async { Ok::<_, Status>(devices) }).chain(futures::stream::pending());
                        async { Ok::<_, Status>(tonic::Response::new(stream.boxed())) }
                    };
                    Grpc::new(ProstCodec::<Devices, Empty>::default())
                        .server_streaming(service_fn(answer), request)
                        .await
                }
                "Allocate" => {
                    let answer = |request: tonic::Request<Allocate>| async {
                        let visible = |ids: &Ids| Environment {
                            envs: [("NVIDIA_VISIBLE_DEVICES".to_owned(), ids.ids.join(","))].into(),
                        };
                        let containers = request.into_inner().containers.iter().map(visible).collect();
                        Ok::<_, Status>(tonic::Response::new(Allocated { containers }))
                    };
                    Grpc::new(ProstCodec::<Allocated, Allocate>::default()).unary(service_fn(answer), request).await
                }
                _ => Status::unimplemented(method).into_http(),
            })
        })
    }
}

/// Plugins that run; the kubelets forget them when this is dropped.
pub(crate) struct Plugins {
    nodes: Vec<String>,
    runtime: Option<tokio::runtime::Runtime>,
}

/// The folder of a node in which plugins and the kubelet meet.
fn folder(node: &str) -> Result<PathBuf, String> {
    let root = kubeconfig()?.parent().map(Path::to_path_buf).ok_or("the cluster has no folder")?;
    Ok(root.join(node).join("var/lib/kubelet/device-plugins"))
}

/// Starts a plugin on each node, for these cards.
pub(crate) fn start(cards: &[(String, Vec<String>)]) -> Result<Plugins, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let mut plugins = Plugins { nodes: Vec::new(), runtime: None };
    for (node, cards) in cards {
        plugins.nodes.push(node.clone());
        runtime.block_on(serve(folder(node)?, cards.clone()))?;
    }
    plugins.runtime = Some(runtime);
    Ok(plugins)
}

async fn serve(folder: PathBuf, cards: Vec<String>) -> Result<(), String> {
    let path = folder.join(SOCKET);
    fs::remove_file(&path).ok();
    let listener = UnixListener::bind(&path).map_err(|error| format!("`{}`: {error}", path.display()))?;
    let incoming = futures::stream::unfold(listener, |listener| async {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        Some((accepted, listener))
    });
    let plugin = Plugin { cards: Arc::new(cards) };
    tokio::spawn(Server::builder().add_service(plugin).serve_with_incoming(incoming));
    let register = async {
        let channel =
            Endpoint::from_shared(format!("unix:{}", folder.join("kubelet.sock").display()))?.connect().await?;
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await?;
        let request =
            Register { version: "v1beta1".to_owned(), endpoint: SOCKET.to_owned(), resource: RESOURCE.to_owned() };
        let codec = ProstCodec::<Register, Empty>::default();
        let path = PathAndQuery::from_static("/v1beta1.Registration/Register");
        Ok::<_, transport::Error>(client.unary(tonic::Request::new(request), path, codec).await)
    };
    let answered = tokio::time::timeout(Duration::from_secs(20), register).await.map_err(|error| error.to_string())?;
    answered.map_err(|error| format!("{error:?}"))?.map_err(|error| error.to_string())?;
    Ok(())
}

impl Drop for Plugins {
    /// A kubelet remembers a plugin's cards for minutes, and across restarts.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        for node in &self.nodes {
            let kubelet = format!("{node}-kubelet");
            let forget = || -> Result<(), String> {
                switch("stop", &kubelet)?;
                let folder = folder(node)?;
                for file in [CHECKPOINT, SOCKET] {
                    fs::remove_file(folder.join(file)).ok();
                }
                switch("restart", &kubelet)
            };
            if let Err(error) = forget() {
                eprintln!("{node} does not forget its device plugin: {error}");
            }
        }
    }
}
