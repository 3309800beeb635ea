//! A batch of experience, and its random minibatches.

use burn::tensor::{Int, Tensor};
use rand::seq::SliceRandom;
use steadfast_envs::Rng;

use super::density::Row;
use super::device::Device;
use super::dist::Dist;
use super::recurrent::Past;
use super::weights::apart;

/// One batch of experience; B = T·N, time-major.
pub struct Batch {
    /// All rows.
    pub rows: Rows,
    /// Share of the returns' variance that V_old explains.
    pub explained_variance: Option<f64>,
    order: Order,
}

/// Rows of a batch, where the networks compute.
#[allow(clippy::large_enum_variant, reason = "few live at a time, and tensors are handles")]
pub enum Rows {
    /// In host memory.
    Host(HostRows),
    /// On a device.
    Tensor(TensorRows),
}

/// Rows in host memory.
#[derive(Clone, Debug, Default)]
pub struct HostRows {
    /// s, `[B, O]`.
    pub obs: Vec<f32>,
    /// Choices allowed there, `[B, mask_len]`; empty where all are.
    pub masks: Vec<bool>,
    /// a, unclipped, `[B, action_len]`.
    pub actions: Vec<f32>,
    /// π_old(·|s): means, or log-probabilities, `[B, K]`.
    pub old: Vec<f32>,
    /// Log-stds of π_old, `[E]`.
    pub log_std_old: Vec<f32>,
    /// ln π_old(a|s), `[B]`.
    pub log_prob_old: Vec<f32>,
    /// V_old(s), `[B]`.
    pub value_old: Vec<f32>,
    /// Â, `[B]`.
    pub advantage: Vec<f32>,
    /// R = Â + V_old, `[B]`.
    pub ret: Vec<f32>,
    /// Whether an episode begins here, `[B]`, and what was remembered before the first step, `[N, W]`; empty where nothing
    /// remembers.
    pub starts: Vec<bool>,
    /// See `starts`.
    pub memory: Vec<f32>,
}

impl HostRows {
    /// The observations as a recurrent policy lives them.
    pub fn past(&self) -> Past<'_> {
        Past { obs: &self.obs, starts: &self.starts, memory: &self.memory }
    }

    /// Every n-th row alone, observations and masks; where something remembers `width` numbers, all steps of every n-th of
    /// the `copies`, with their memories.
    pub fn thinned(&self, copies: usize, every: usize, width: usize) -> Self {
        let rows = self.advantage.len();
        let picked = move || (0..rows).filter(move |row| (row % copies).is_multiple_of(every));
        fn pick<X: Copy>(from: &[X], rows: usize, picked: impl Iterator<Item = usize>) -> Vec<X> {
            let len = from.len() / rows.max(1);
            // One allocation, though it may be too much.
            let mut to = Vec::with_capacity(from.len());
            picked.for_each(|row| to.extend_from_slice(&from[row * len..(row + 1) * len]));
            to
        }
        let remembering = self.memory.len().checked_div(width).unwrap_or(0);
        let memory = pick(&self.memory, remembering, (0..remembering).step_by(every));
        Self {
            obs: pick(&self.obs, rows, picked()),
            masks: pick(&self.masks, rows, picked()),
            starts: pick(&self.starts, rows, picked()),
            memory,
            ..Self::default()
        }
    }
}

/// Rows on a device; shapes as those of [`HostRows`].
pub struct TensorRows {
    /// s
    pub obs: Tensor<2>,
    /// [`FORBIDDEN`](super::dist::FORBIDDEN) where a choice is forbidden, 0 elsewhere, `[B, K]`; none where all are allowed.
    pub forbidden: Option<Tensor<2>>,
    /// a
    pub actions: Tensor<2>,
    /// π_old(·|s)
    pub dist_old: Dist,
    /// ln π_old(a|s)
    pub log_prob_old: Tensor<1>,
    /// V_old(s)
    pub value_old: Tensor<1>,
    /// Â
    pub advantage: Tensor<1>,
    /// R
    pub ret: Tensor<1>,
}

/// Which rows the minibatches take, and room for one.
#[derive(Default)]
struct Order {
    /// Rows of all epochs, `[epochs · B]`.
    rows: Vec<u32>,
    /// The same on the device, uploaded once.
    uploaded: Option<Tensor<1, Int>>,
    /// Rows of a minibatch.
    size: usize,
    /// Rows taken.
    taken: usize,
    minibatch: Option<Rows>,
}

impl Batch {
    /// A batch of these rows.
    pub fn new(rows: Rows, explained_variance: Option<f64>) -> Self {
        Self { rows, explained_variance, order: Order::default() }
    }

    /// Draws random orders of the rows for `epochs` passes, cut into minibatches of `size` (the last of a
    /// pass may be smaller), which [`Self::minibatch`] then hands out.
    pub fn shuffle(&mut self, epochs: usize, size: usize, rng: &mut Rng, device: &Device) {
        let len = self.rows.len();
        let order = &mut self.order;
        order.rows.clear();
        for _ in 0..epochs {
            let first = order.rows.len();
            order.rows.extend(0..len as u32);
            order.rows[first..].shuffle(rng);
        }
        (order.size, order.taken) = (size, 0);
        order.uploaded = matches!(self.rows, Rows::Tensor(_)).then(|| device.indices(&order.rows));
    }

    /// The next minibatch, gathered from the batch as it is now; `None` after the last.
    pub fn minibatch(&mut self) -> Option<&mut Rows> {
        let Order { rows: order, uploaded, size, taken, minibatch } = &mut self.order;
        if *taken >= order.len() {
            return None;
        }
        // A minibatch ends where its epoch does.
        let len = self.rows.len();
        let count = (*size).min(len - *taken % len);
        match (&self.rows, uploaded) {
            (Rows::Tensor(rows), Some(uploaded)) => {
                let picked = rows.select(&uploaded.clone().narrow(0, *taken, count));
                *minibatch = Some(Rows::Tensor(picked));
            }
            (Rows::Host(rows), _) => {
                if !matches!(minibatch, Some(Rows::Host(_))) {
                    *minibatch = Some(Rows::Host(HostRows::default()));
                }
                if let Some(Rows::Host(to)) = minibatch {
                    rows.gather(&order[*taken..*taken + count], to);
                }
            }
            (Rows::Tensor(_), None) => return None,
        }
        *taken += count;
        minibatch.as_mut()
    }
}

impl Rows {
    /// Number of rows, B.
    pub fn len(&self) -> usize {
        match self {
            Self::Host(rows) => rows.advantage.len(),
            Self::Tensor(rows) => rows.advantage.dims()[0],
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows of networks in host memory.
    pub fn host(&self) -> &HostRows {
        let Self::Host(rows) = self else { apart() };
        rows
    }

    /// The same, to be changed.
    pub fn host_mut(&mut self) -> &mut HostRows {
        let Self::Host(rows) = self else { apart() };
        rows
    }

    /// Â becomes (Â − mean) / (std + ε), with the sample standard deviation.
    pub fn standardize_advantage(&mut self, epsilon: f64) {
        match self {
            Self::Host(rows) => {
                let n = rows.advantage.len() as f64;
                let mean = rows.advantage.iter().map(|a| f64::from(*a)).sum::<f64>() / n;
                let square = |a: &f32| (f64::from(*a) - mean) * (f64::from(*a) - mean);
                let variance = rows.advantage.iter().map(square).sum::<f64>() / (n - 1.0).max(1.0);
                let factor = 1.0 / (variance.sqrt() + epsilon);
                rows.advantage.iter_mut().for_each(|a| *a = ((f64::from(*a) - mean) * factor) as f32);
            }
            Self::Tensor(rows) => {
                let n = rows.advantage.dims()[0] as f64;
                let centred = rows.advantage.clone() - rows.advantage.clone().mean();
                let variance = centred.clone().square().sum() * (1.0 / (n - 1.0).max(1.0));
                rows.advantage = centred / (variance.sqrt() + epsilon);
            }
        }
    }
}

impl HostRows {
    /// Row `i` as a policy's loss sees it, for actions and outputs of these lengths.
    pub fn row(&self, i: usize, action_len: usize, outputs: usize) -> Row<'_> {
        Row {
            action: &self.actions[i * action_len..(i + 1) * action_len],
            old: &self.old[i * outputs..(i + 1) * outputs],
            log_prob_old: self.log_prob_old[i],
            advantage: self.advantage[i],
        }
    }

    /// Copies the rows of these numbers to `to`.
    fn gather(&self, picked: &[u32], to: &mut Self) {
        let len = self.advantage.len();
        fn wide<T: Copy + Default>(from: &[T], to: &mut Vec<T>, len: usize, picked: &[u32]) {
            let columns = from.len() / len;
            // Within its capacity after the first minibatch.
            to.resize(picked.len() * columns, T::default());
            for (row, i) in to.chunks_exact_mut(columns.max(1)).zip(picked) {
                row.copy_from_slice(&from[*i as usize * columns..(*i as usize + 1) * columns]);
            }
        }
        wide(&self.obs, &mut to.obs, len, picked);
        wide(&self.masks, &mut to.masks, len, picked);
        wide(&self.actions, &mut to.actions, len, picked);
        wide(&self.old, &mut to.old, len, picked);
        // A critic's rows hold no actions, an actor's may hold no returns.
        let column = |from: &[f32], to: &mut Vec<f32>| {
            to.clear();
            if !from.is_empty() {
                to.extend(picked.iter().map(|i| from[*i as usize]));
            }
        };
        column(&self.log_prob_old, &mut to.log_prob_old);
        column(&self.value_old, &mut to.value_old);
        column(&self.advantage, &mut to.advantage);
        column(&self.ret, &mut to.ret);
        to.log_std_old.clone_from(&self.log_std_old);
    }
}

impl TensorRows {
    /// The rows of these numbers.
    fn select(&self, rows: &Tensor<1, Int>) -> Self {
        let vector = |t: &Tensor<1>| t.clone().select(0, rows.clone());
        Self {
            obs: self.obs.clone().select(0, rows.clone()),
            forbidden: self.forbidden.as_ref().map(|f| f.clone().select(0, rows.clone())),
            actions: self.actions.clone().select(0, rows.clone()),
            dist_old: self.dist_old.select(rows),
            log_prob_old: vector(&self.log_prob_old),
            value_old: vector(&self.value_old),
            advantage: vector(&self.advantage),
            ret: vector(&self.ret),
        }
    }
}
