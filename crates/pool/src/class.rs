//! GPUs that answer the same requests, and the nodes that have them, ready to be searched.

use crate::field::Field;
use crate::{Amount, Gpu, GpuIndex, Node};

/// Nodes are kept by what k of their GPUs have open at the same time, for these k.
pub(crate) const COUNTS: [usize; 6] = [1, 2, 3, 4, 6, 8];

/// What placing looks at of a GPU, in one cache line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Hot {
    /// Free, and kept back for nobody.
    pub(crate) open: Amount,
    /// What may still be guaranteed.
    pub(crate) room: Amount,
    /// The open share of the capacity, in parts per million.
    pub(crate) share: u32,
    pub(crate) class: u32,
    pub(crate) node: u32,
    /// Takes new work.
    pub(crate) usable: bool,
    /// Nobody is on it, and it is kept back for nobody.
    pub(crate) idle: bool,
}

impl Hot {
    pub(crate) fn of(gpu: &Gpu, node: &Node, class: u32) -> Self {
        let open = gpu.open();
        Self {
            open,
            room: gpu.guaranteeable(),
            share: open.share_of(gpu.capacity),
            class,
            node: gpu.node.0,
            usable: gpu.ready && node.ready && !gpu.exclusive,
            idle: gpu.shares == 0 && gpu.reserved == Amount::default(),
        }
    }

    /// What a guaranteed request may have.
    pub(crate) fn sure(&self) -> Amount {
        self.open.least(self.room)
    }
}

/// See the module's text. A class is all GPUs of one pool, model and vendor; besides, a pool that has nodes with several
/// models has one class of those nodes.
#[derive(Clone, Debug)]
pub(crate) struct Class {
    pub(crate) pool: String,
    pub(crate) model: String,
    pub(crate) vendor: String,
    /// The class of a pool's nodes with several models: it has nodes only.
    pub(crate) mixed: bool,
    /// No GPU has less capacity in either part.
    pub(crate) smallest: Amount,
    largest: Amount,
    /// Some GPU gives out more than its card: then what is guaranteed is kept apart.
    oversubscribed: bool,
    pub(crate) members: Vec<GpuIndex>,
    gpus: [Field; 2],
    nodes: [[Field; COUNTS.len()]; 2],
}

impl Class {
    pub(crate) fn new(gpu: &Gpu, mixed: bool) -> Self {
        let field = || Field::new(Amount::default());
        Self {
            pool: gpu.pool.clone(),
            model: if mixed { String::new() } else { gpu.model.clone() },
            vendor: if mixed { String::new() } else { gpu.vendor.clone() },
            mixed,
            smallest: gpu.capacity,
            largest: Amount::default(),
            oversubscribed: false,
            members: Vec::new(),
            gpus: [field(), field()],
            nodes: std::array::from_fn(|_| std::array::from_fn(|_| field())),
        }
    }

    /// Makes room for a GPU of this kind. `true`: the fields are empty now, and everything must be put in again.
    pub(crate) fn admit(&mut self, gpu: &Gpu) -> bool {
        self.smallest = self.smallest.least(gpu.capacity);
        let largest = self.largest.most(gpu.capacity);
        let oversubscribed = self.oversubscribed || gpu.capacity != gpu.card;
        let same = self.largest.covers(largest) && oversubscribed == self.oversubscribed;
        if same {
            return false;
        }
        // Room to grow, so that GPUs of rising capacity cause few rebuilds.
        let grown = |value: u64| value.checked_next_power_of_two().unwrap_or(u64::MAX);
        self.largest = largest.map(grown);
        self.oversubscribed = oversubscribed;
        let field = || Field::new(largest);
        self.gpus = [field(), field()];
        self.nodes = std::array::from_fn(|_| std::array::from_fn(|_| field()));
        true
    }

    /// The GPUs by what they have open, or by what a guaranteed request may have.
    pub(crate) fn gpus(&self, guaranteed: bool) -> &Field {
        &self.gpus[usize::from(guaranteed && self.oversubscribed)]
    }

    /// The nodes that may have `count` fitting GPUs.
    pub(crate) fn nodes(&self, count: usize, guaranteed: bool) -> &Field {
        let position = COUNTS.iter().rposition(|&least| least <= count).unwrap_or(0);
        &self.nodes[usize::from(guaranteed && self.oversubscribed)][position]
    }

    pub(crate) fn insert(&mut self, gpu: GpuIndex, hot: &Hot) {
        self.gpus[0].insert(hot.open, hot.share, gpu.0);
        if self.oversubscribed {
            self.gpus[1].insert(hot.sure(), hot.share, gpu.0);
        }
    }

    pub(crate) fn remove(&mut self, gpu: GpuIndex, hot: &Hot) {
        self.gpus[0].remove(hot.open, hot.share, gpu.0);
        if self.oversubscribed {
            self.gpus[1].remove(hot.sure(), hot.share, gpu.0);
        }
    }

    pub(crate) fn insert_node(&mut self, node: u32, stand: &Stand) {
        for &(fields, position, amount) in stand.corners.iter().filter(|corner| corner.0 == 0 || self.oversubscribed) {
            self.nodes[fields][position].insert(amount, stand.sum, node);
        }
    }

    /// Both lists of corners are in the same order, so most corners are found to be the same.
    pub(crate) fn restand(&mut self, node: u32, old: &Stand, new: &Stand) {
        let fields = 1 + usize::from(self.oversubscribed);
        let here = |stand: &Stand| stand.corners.iter().take_while(|corner| corner.0 < fields).count();
        let (mut before, mut after) = (&old.corners[..here(old)], &new.corners[..here(new)]);
        let rank = |corner: &(usize, usize, Amount)| (corner.0, u64::MAX - corner.2.vram.get(), corner.1);
        loop {
            match (before.split_first(), after.split_first()) {
                (None, None) => break,
                (Some((one, left)), Some((other, right))) if one == other => {
                    if old.sum != new.sum {
                        self.nodes[one.0][one.1].rekey(one.2, old.sum, new.sum, node);
                    }
                    (before, after) = (left, right);
                }
                (Some((one, left)), other) if other.is_none_or(|(other, _)| rank(one) <= rank(other)) => {
                    self.nodes[one.0][one.1].remove(one.2, old.sum, node);
                    before = left;
                }
                (_, Some((one, right))) => {
                    self.nodes[one.0][one.1].insert(one.2, new.sum, node);
                    after = right;
                }
                (Some(_), None) => break,
            }
        }
    }
}

/// How a node stands in a class.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Stand {
    /// The sum of its GPUs' open shares.
    sum: u32,
    /// For what is open (0) and what may be guaranteed (1), and the position in [`COUNTS`]: amounts that so many of its
    /// GPUs have. All that they have is covered by one of them.
    pub(crate) corners: Vec<(usize, usize, Amount)>,
}

/// Nodes with more GPUs have one corner, which all that they have is covered by, though they may not have it.
const MOST_EXACT: usize = 16;

impl Stand {
    /// The stand of a node with these GPUs, and of what was there before. `spare` becomes part of it.
    pub(crate) fn of<'a>(gpus: impl Iterator<Item = &'a Hot>, scratch: &mut Scratch) -> Self {
        let mut stand = Self { sum: 0, corners: std::mem::take(&mut scratch.corners) };
        stand.corners.clear();
        let mut same = true;
        scratch.lists.iter_mut().for_each(Vec::clear);
        for hot in gpus.filter(|hot| hot.usable) {
            stand.sum = stand.sum.saturating_add(hot.share);
            let sure = hot.sure();
            same &= sure == hot.open;
            scratch.lists[0].push((hot.open.vram.get(), hot.open.tflops.milli()));
            scratch.lists[1].push((sure.vram.get(), sure.tflops.milli()));
        }
        for fields in 0..2 {
            if fields == 1 && same {
                let plain = stand.corners.len();
                stand.corners.extend_from_within(..plain);
                stand.corners.iter_mut().skip(plain).for_each(|corner| corner.0 = 1);
                break;
            }
            let list = &mut scratch.lists[fields];
            list.sort_unstable_by(|a, b| b.cmp(a));
            corners(list, &mut scratch.best, |position, amount| stand.corners.push((fields, position, amount)));
        }
        stand
    }

    pub(crate) fn sum(&self) -> u32 {
        self.sum
    }
}

/// Lists that are used again and again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scratch {
    lists: [Vec<(u64, u64)>; 2],
    best: Vec<u64>,
    pub(crate) corners: Vec<(usize, usize, Amount)>,
}

/// For each of [`COUNTS`], the amounts that so many of these GPUs, most VRAM first, have at the same time.
fn corners(gpus: &[(u64, u64)], best: &mut Vec<u64>, mut corner: impl FnMut(usize, Amount)) {
    best.clear();
    if gpus.len() > MOST_EXACT {
        best.extend(gpus.iter().map(|gpu| gpu.1));
        best.sort_unstable_by(|a, b| b.cmp(a));
        for (position, &count) in COUNTS.iter().enumerate() {
            corner(position, Amount::of_parts(gpus[count - 1].0, best[count - 1]));
        }
        return;
    }
    // Going down in VRAM, the `count`th most compute so far only grows.
    let mut before = [None; COUNTS.len()];
    for (number, &(vram, tflops)) in gpus.iter().enumerate() {
        let at = best.iter().take_while(|&&other| other >= tflops).count();
        best.insert(at, tflops);
        if gpus.get(number + 1).is_some_and(|next| next.0 == vram) {
            continue;
        }
        for (position, &count) in COUNTS.iter().enumerate().take_while(|(_, count)| **count <= best.len()) {
            let most = best[count - 1];
            if before[position].is_none_or(|before| most > before) {
                before[position] = Some(most);
                corner(position, Amount::of_parts(vram, most));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners_cover_what_so_many_have_and_nothing_else() {
        let gpus = [(9, 1), (7, 5), (7, 3), (4, 8), (2, 6), (1, 1)];
        let mut all = Vec::new();
        corners(&gpus, &mut Vec::new(), |position, corner| all.push((position, corner)));
        for (position, count) in COUNTS.into_iter().enumerate() {
            let found: Vec<Amount> = all.iter().filter(|corner| corner.0 == position).map(|corner| corner.1).collect();
            for vram in 0..11 {
                for tflops in 0..10 {
                    let have = gpus.iter().filter(|gpu| gpu.0 >= vram && gpu.1 >= tflops).count() >= count;
                    let covered = found.iter().any(|corner| corner.covers(Amount::of_parts(vram, tflops)));
                    assert_eq!(have, covered, "{count} {vram} {tflops} {found:?}");
                }
            }
        }
    }
}
