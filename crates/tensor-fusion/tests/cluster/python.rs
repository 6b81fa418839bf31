//! Unmodified Python programs in pods: an image as users have it, a wish on the pod, and a result that NumPy agrees with.

use libtest_mimic::Failed;
use serde_json::json;

use super::case::{Case, case};
use super::kubernetes::{PYTHON, apply, get};
use super::workloads::{job_of, prints, wish};

const NUMBA: &str = include_str!("python/numba_histogram.py");
const CUPY: &str = include_str!("python/cupy_arrays.py");
/// What they print last, with the memory that [`wish`] asks for.
const COUNTED: &str = "numba: 200000 values counted, 1024 MiB of memory";
const SORTED: &str = "cupy: 5000 values sorted on Tensor Fusion Software GPU";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("python::numba_computes_on_its_node_and_over_the_network", || {
            // Both at once: most of the time is waiting.
            let pods = [Pod::new("numba", NUMBA, COUNTED), Pod::remote("numba-remote", NUMBA, COUNTED)];
            pods.iter().try_for_each(Pod::start)?;
            pods.iter().try_for_each(Pod::check)
        })
        .with_python(),
        case("python::cupy_computes_on_its_node", || {
            let pod = Pod::new("cupy", CUPY, SORTED);
            pod.start()?;
            pod.check()
        })
        .with_python(),
    ]
}

struct Pod {
    name: &'static str,
    program: &'static str,
    expected: &'static str,
    remote: bool,
}

impl Pod {
    fn new(name: &'static str, program: &'static str, expected: &'static str) -> Self {
        Self { name, program, expected, remote: false }
    }

    fn remote(name: &'static str, program: &'static str, expected: &'static str) -> Self {
        Self { remote: true, ..Self::new(name, program, expected) }
    }

    fn start(&self) -> Result<(), Failed> {
        let command = json!(["python3", "-c", self.program]).to_string();
        let wish = wish(if self.remote { ", tensor-fusion.ai/is-local-gpu: 'false'" } else { "" });
        apply(&job_of(PYTHON, self.name, &wish, &command, "{}"))?;
        Ok(())
    }

    fn check(&self) -> Result<(), Failed> {
        let pod = get(&format!("pod {}", prints(self.name, self.expected)?))?;
        let here = pod["metadata"]["annotations"]["tensor-fusion.ai/allocation"].is_string();
        assert_eq!(here, !self.remote, "{pod}");
        Ok(())
    }
}
