//! What the kubelet has given to pods by device plugins, asked over its pod-resources socket (service `PodResourcesLister` of
//! its API `v1`, a stable one).
//!
//! A card that a device plugin advertises is the plugin's, whether a pod has it or not: the kubelet may give it to the next pod
//! that asks. The one way to have such a card for vGPUs is to ask for it like everybody else: a pod of the operator's, which does
//! nothing but hold it. So a card is never given out twice, and no plugin needs to know of us.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crd::names::CARD_HOLDER as HOLDER;
use prost::Message;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};

/// An answer may be so large: a node has a few hundred pods.
const MOST: usize = 16 << 20;

/// The kubelet could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    /// It does not listen there.
    #[error("the kubelet does not answer at `{socket}`: {source}")]
    Connect {
        /// Where.
        socket: String,
        /// Why.
        source: tonic::transport::Error,
    },
    /// It says no.
    #[error("the kubelet does not tell what its pods have: {0}")]
    Call(#[from] tonic::Status),
}

/// Who has a card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Has {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Name of its container.
    pub container: String,
}

/// What device plugins say of a node's cards, by UUID in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Given {
    /// Cards that some plugin advertises.
    pub advertised: BTreeSet<String>,
    /// Cards of which a plugin gives out shares: nobody can have all of one.
    pub shared: BTreeSet<String>,
    /// Who has which.
    pub had: BTreeMap<String, Has>,
}

/// Whose a card is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Ours: no plugin advertises it.
    Us,
    /// Ours as long as this pod holds it.
    Holder(String),
    /// A plugin's.
    Plugin {
        /// What is to be said about it.
        text: String,
        /// It gives all of it to one pod.
        whole: bool,
    },
}

impl Given {
    /// Whose a card is. Pods of `namespace` may hold cards for us.
    #[must_use]
    pub fn owner(&self, uuid: &str, namespace: &str) -> Owner {
        let uuid = uuid.to_ascii_lowercase();
        if self.shared.contains(&uuid) {
            let text = "the node's device plugin shares it among pods".to_owned();
            return Owner::Plugin { text, whole: false };
        }
        match self.had.get(&uuid) {
            Some(has) if has.namespace == namespace && has.container == HOLDER => Owner::Holder(has.pod.clone()),
            Some(has) => Owner::Plugin {
                text: format!("pod {}/{} has it by the node's device plugin", has.namespace, has.pod),
                whole: true,
            },
            None if self.advertised.contains(&uuid) => {
                Owner::Plugin { text: "the node's device plugin may give it to any pod".to_owned(), whole: true }
            }
            None => Owner::Us,
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct Nothing {}

#[derive(Clone, PartialEq, Message)]
struct List {
    #[prost(message, repeated, tag = "1")]
    pods: Vec<OfPod>,
}

#[derive(Clone, PartialEq, Message)]
struct OfPod {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    namespace: String,
    #[prost(message, repeated, tag = "3")]
    containers: Vec<OfContainer>,
}

#[derive(Clone, PartialEq, Message)]
struct OfContainer {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    devices: Vec<Devices>,
}

#[derive(Clone, PartialEq, Message)]
struct Devices {
    #[prost(string, tag = "1")]
    resource: String,
    #[prost(string, repeated, tag = "2")]
    ids: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Allocatable {
    #[prost(message, repeated, tag = "1")]
    devices: Vec<Devices>,
}

/// Asks the kubelet.
///
/// # Errors
/// It does not answer, or not so.
pub async fn given(socket: &Path) -> Result<Given, KubeletError> {
    let connect = |source| KubeletError::Connect { socket: socket.display().to_string(), source };
    let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display())).map_err(connect)?;
    let channel = endpoint.connect().await.map_err(connect)?;
    let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(MOST);
    // First what there is: a card that comes and is given in between is then not known at all, rather than known as free.
    let all: Allocatable = call(&mut client, "/v1.PodResourcesLister/GetAllocatableResources").await?;
    let list: List = call(&mut client, "/v1.PodResourcesLister/List").await?;
    Ok(read(&all, &list))
}

async fn call<A: Message + Default + 'static>(
    client: &mut tonic::client::Grpc<Channel>,
    path: &'static str,
) -> Result<A, tonic::Status> {
    client.ready().await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
    let codec = tonic_prost::ProstCodec::<Nothing, A>::default();
    let answer = client.unary(tonic::Request::new(Nothing {}), PathAndQuery::from_static(path), codec).await?;
    Ok(answer.into_inner())
}

/// A plugin's name for a card is its UUID; one that shares cards adds a number (`GPU-…::3`). The card, and whether it is shared.
fn cards(devices: &Devices) -> impl Iterator<Item = (String, bool)> {
    devices.ids.iter().map(|id| match id.split_once("::") {
        Some((uuid, _)) => (uuid.to_ascii_lowercase(), true),
        None => (id.to_ascii_lowercase(), false),
    })
}

fn read(all: &Allocatable, list: &List) -> Given {
    let mut given = Given::default();
    for (uuid, shared) in all.devices.iter().flat_map(cards) {
        if shared {
            given.shared.insert(uuid.clone());
        }
        given.advertised.insert(uuid);
    }
    for pod in &list.pods {
        for container in &pod.containers {
            for (uuid, _) in container.devices.iter().flat_map(cards) {
                let (namespace, name) = (pod.namespace.clone(), pod.name.clone());
                given.had.insert(uuid, Has { namespace, pod: name, container: container.name.clone() });
            }
        }
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_is_ours_where_no_plugin_has_it_or_a_pod_of_ours_holds_it() {
        let devices = |ids: &[&str]| Devices {
            resource: "nvidia.com/gpu".to_owned(),
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        };
        let pod = |namespace: &str, name: &str, container: &str, id: &str| OfPod {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            containers: vec![OfContainer { name: container.to_owned(), devices: vec![devices(&[id])] }],
        };
        let all = Allocatable { devices: vec![devices(&["GPU-A", "GPU-B", "GPU-C", "GPU-D::0", "GPU-D::1", "GPU-F"])] };
        let list = List {
            pods: vec![
                pod("system", "card-1", HOLDER, "GPU-A"),
                pod("team", "native", "main", "GPU-B"),
                // Whoever calls a container so elsewhere holds nothing for us.
                pod("team", "pretender", HOLDER, "GPU-F"),
                // A share of a card is not the card.
                pod("system", "card-2", HOLDER, "GPU-D::1"),
            ],
        };
        let given = read(&all, &list);
        assert_eq!(given.owner("gpu-a", "system"), Owner::Holder("card-1".to_owned()));
        let plugin = |uuid: &str| match given.owner(uuid, "system") {
            Owner::Plugin { text, whole } => {
                assert_eq!(whole, !text.contains("shares"));
                text
            }
            other => panic!("{uuid}: {other:?}"),
        };
        assert!(plugin("GPU-b").starts_with("pod team/native has it"));
        assert!(plugin("GPU-C").contains("may give it to any pod"));
        assert!(plugin("GPU-F").starts_with("pod team/pretender"));
        assert!(plugin("GPU-D").contains("shares it among pods"));
        assert_eq!(given.owner("GPU-E", "system"), Owner::Us);
        assert_eq!(Given::default().owner("GPU-A", "system"), Owner::Us);
    }

    #[test]
    fn messages_are_those_of_the_kubelet() {
        let list = List {
            pods: vec![OfPod {
                name: "p".to_owned(),
                namespace: "n".to_owned(),
                containers: vec![OfContainer {
                    name: "c".to_owned(),
                    devices: vec![Devices { resource: "r".to_owned(), ids: vec!["x".to_owned(), "y".to_owned()] }],
                }],
            }],
        };
        let expected = b"\x0a\x16\x0a\x01p\x12\x01n\x1a\x0e\x0a\x01c\x12\x09\x0a\x01r\x12\x01x\x12\x01y";
        assert_eq!(list.encode_to_vec(), expected);
        assert_eq!(List::decode(&expected[..]).unwrap(), list);
    }

    #[tokio::test]
    async fn a_kubelet_that_is_not_there_is_named() {
        let error = given(Path::new("/nonexistent/kubelet.sock")).await.unwrap_err();
        assert!(error.to_string().contains("/nonexistent/kubelet.sock"), "{error}");
    }
}
