//! What admission knows of the cluster: pools, profiles, pods. Followed beforehand, never read while deciding.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, RwLock};

use crd::{GPUPool, Resources, WorkloadProfile, WorkloadProfileSpec, names};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::runtime::watcher::Config;
use kube::{Api, Client, ResourceExt};

use super::Webhook;
use super::review::COUNTER_KEY;
use crate::allocator::claim;
use crate::configuration::Overlay;
use crate::follow::{News, follow, path};
use crate::{PoolSettings, Profile, Settings, configuration};

/// See the module's text.
#[derive(Debug, Default)]
pub struct Knowledge {
    settings: RwLock<Arc<Settings>>,
    /// What was told by whom started us.
    base: Mutex<Settings>,
    /// What people change while we run.
    overlay: Mutex<Overlay>,
    pools: Mutex<BTreeMap<String, PoolSettings>>,
    profiles: Mutex<BTreeMap<String, Profile>>,
    complete: Mutex<BTreeSet<&'static str>>,
}

impl Knowledge {
    /// What decisions depend on, as it is now.
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Tells what does not come from the cluster.
    pub fn set_base(&self, settings: Settings) {
        *lock(&self.base) = settings;
        self.renew();
    }

    /// Whether settings, pools and profiles are known.
    pub fn is_complete(&self) -> bool {
        lock(&self.complete).len() == 3
    }

    fn renew(&self) {
        let mut settings = lock(&self.base).clone();
        lock(&self.overlay).apply(&mut settings);
        let pools = lock(&self.pools).clone();
        if !pools.is_empty() {
            settings.pools = pools;
        }
        settings.profiles.extend(lock(&self.profiles).clone());
        *self.settings.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(settings);
    }

    fn pool(&self, news: News<GPUPool>) {
        match news {
            News::Is(pool) => {
                let key = names::keyed(&lock(&self.base).domain, names::IS_DEFAULT_POOL);
                lock(&self.pools).insert(pool.name_any(), pool_settings(&pool, &key));
            }
            News::Gone(name) => drop(lock(&self.pools).remove(&name)),
            News::Complete => drop(lock(&self.complete).insert("pools")),
        }
        self.renew();
    }

    /// What is wrong with it, if anything is: why, and the reason in a word.
    fn configure(&self, news: &News<ConfigMap>) -> Option<(&'static str, String)> {
        let mut wrong = None;
        match news {
            News::Is(map) => match configuration::value(map, configuration::KEY).and_then(Overlay::parse) {
                Ok(overlay) => {
                    if !overlay.ignored.is_empty() {
                        let text = format!("set, and not acted upon: {}", overlay.ignored.join(", "));
                        wrong = Some((configuration::IGNORED, text));
                    }
                    *lock(&self.overlay) = overlay;
                }
                Err(why) => {
                    wrong = Some((configuration::UNREADABLE, format!("{why}; the settings of before stay")));
                }
            },
            News::Gone(_) => *lock(&self.overlay) = Overlay::default(),
            News::Complete => drop(lock(&self.complete).insert("settings")),
        }
        self.renew();
        wrong
    }

    fn profile(&self, news: News<WorkloadProfile>) {
        match news {
            News::Is(object) => match profile_of(&object.spec) {
                Ok(profile) => drop(lock(&self.profiles).insert(path(&*object), profile)),
                Err(error) => {
                    tracing::warn!(profile = path(&*object), %error, "a profile cannot be read, so pods cannot name it");
                    lock(&self.profiles).remove(&path(&*object));
                }
            },
            News::Gone(path) => drop(lock(&self.profiles).remove(&path)),
            News::Complete => drop(lock(&self.complete).insert("profiles")),
        }
        self.renew();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn pool_settings(pool: &GPUPool, default: &str) -> PoolSettings {
    PoolSettings {
        default: [names::DEFAULT_POOL, default]
            .into_iter()
            .any(|key| pool.annotations().get(key).is_some_and(|value| value == "true")),
        local: pool.spec.default_using_local_gpu,
        qos: pool.spec.qos_config.as_ref().and_then(|config| config.default_qos).map(Into::into),
    }
}

/// A profile as admission reads it. Amounts of zero are amounts that are not named: TensorFusion's objects must name both.
pub(crate) fn profile_of(spec: &WorkloadProfileSpec) -> Result<Profile, crd::QuantityError> {
    let nothing = Resources::default();
    let resources = spec.resources.as_ref().unwrap_or(&nothing);
    let tflops = |quantity| named(quantity, crd::Quantity::tflops);
    let vram = |quantity| named(quantity, crd::Quantity::bytes);
    let percent = |quantity: &Option<crd::Quantity>| {
        quantity.as_ref().map_or(Ok(None), |quantity| named(quantity, crd::Quantity::percent))
    };
    Ok(Profile {
        pool_name: spec.pool_name.clone(),
        tflops_request: tflops(&resources.requests.tflops)?,
        tflops_limit: tflops(&resources.limits.tflops)?,
        vram_request: vram(&resources.requests.vram)?,
        vram_limit: vram(&resources.limits.vram)?,
        compute_percent_request: percent(&resources.requests.compute)?,
        compute_percent_limit: percent(&resources.limits.compute)?,
        qos: spec.qos.map(Into::into),
        local: spec.is_local_gpu,
        gpu_count: spec.gpu_count.and_then(|count| u32::try_from(count).ok()),
        gpu_model: spec.gpu_model.clone(),
        vendor: spec.vendor.clone(),
        replicas: spec.replicas.and_then(|replicas| u32::try_from(replicas).ok()),
        worker_pod_template: spec.worker_pod_template.clone(),
    })
}

/// An amount, unless it is missing or zero.
fn named<T: Default + PartialEq>(
    quantity: &crd::Quantity,
    read: impl Fn(&crd::Quantity) -> Result<T, crd::QuantityError>,
) -> Result<Option<T>, crd::QuantityError> {
    if quantity.0.is_empty() {
        return Ok(None);
    }
    Ok(Some(read(quantity)?).filter(|amount| *amount != T::default()))
}

/// Follows settings, pools, profiles and pods for ever.
pub fn follow_all(client: &Client, namespace: &str, webhook: &Arc<Webhook>) {
    let (all, of) = (client.clone(), Arc::clone(webhook));
    let namespace = namespace.to_owned();
    tokio::spawn(async move {
        let api: Api<ConfigMap> = Api::namespaced(all.clone(), &namespace);
        let config = Config::default().fields(&format!("metadata.name={}", configuration::NAME));
        follow(api, config, ResourceExt::name_any, |news| {
            if let (Some((reason, text)), News::Is(map)) = (of.knowledge.configure(&news), &news) {
                configuration::complain(&all, &**map, reason, text, of.leads.load(Ordering::SeqCst));
            }
        })
        .await;
    });
    let (all, of) = (client.clone(), Arc::clone(webhook));
    tokio::spawn(async move {
        follow(Api::all(all), Config::default(), ResourceExt::name_any, |news| of.knowledge.pool(news)).await;
    });
    let (all, of) = (client.clone(), Arc::clone(webhook));
    tokio::spawn(async move {
        follow(Api::all(all), Config::default(), path, |news| of.knowledge.profile(news)).await;
    });
    let (all, of) = (client.clone(), Arc::clone(webhook));
    tokio::spawn(async move {
        let config = Config::default().labels(&format!("{}=true", names::ENABLED));
        let uid = |pod: &Pod| pod.uid().unwrap_or_default();
        follow(Api::<Pod>::all(all), config, uid, |news| pod(&of, news)).await;
    });
}

fn pod(webhook: &Webhook, news: News<Pod>) {
    match news {
        News::Is(pod) => {
            let uid = pod.uid().unwrap_or_default();
            let live = !claim::is_finished(&pod) && pod.metadata.deletion_timestamp.is_none();
            match claim::controller(&pod) {
                Some((_, _, owner)) if live && claim::annotation(&pod, names::REQUEST).is_some() => {
                    webhook.grey.see(&uid, owner, claim::annotation(&pod, &names::key(COUNTER_KEY)));
                }
                _ => webhook.grey.gone(&uid),
            }
        }
        News::Gone(uid) => webhook.grey.gone(&uid),
        News::Complete => webhook.grey.complete(),
    }
}
