//! The stochastic policy and the state-value function: a network each, on one flat parameter vector.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use steadfast_envs::state::Array;
use steadfast_envs::{Rng, State, StateError};

use super::batch::{HostRows, Rows, TensorRows};
use super::density::Density;
use super::device::{Device, to_host};
use super::dist::{Dist, Head};
use super::kernels;
use super::loss::{Dual, PolicyLoss, Sample, SquaredError, ValueLoss};
use super::mlp::{Activation, Init};
use super::network::{Heads, Network, Pass, Workspace};
use super::recurrent::{Memories, Past, Recurrence};
use super::trust_region::dot;
use super::weights::{Direction, Scalar, Vector, Weights, apart};
use crate::Acting;

/// Shape and initial weights of the policy and value networks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Net {
    /// Sizes of the hidden layers, of the policy and of the value network.
    pub hidden: Vec<usize>,
    /// Nonlinearity after each hidden layer: `tanh` or `relu`.
    pub activation: Activation,
    /// Initial weights: `orthogonal` (gain √2; 0.01 for the policy's outputs, 1 for the value) or `xavier`.
    pub init: Init,
    /// ln σ₀: initial log standard deviation of Gaussian actions, in units of the action.
    pub log_std_init: f64,
}

impl Default for Net {
    fn default() -> Self {
        Self { hidden: vec![64, 64], activation: Activation::Tanh, init: Init::Orthogonal, log_std_init: 0.0 }
    }
}

/// A policy network with its action distribution. Parameters: the network's, those of what remembers in front of it, where
/// something does, then the log-stds.
pub struct Policy {
    network: Network,
    front: Option<Recurrence>,
    head: Head,
    device: Device,
    /// θ and the gradient of the loss last asked for, `[P]`.
    pub weights: Weights,
    /// Copy of θ for acting, refreshed once an iteration, with the standard deviations.
    host: Vec<f32>,
    std: Vec<f32>,
    work: Workspace,
    memories: Memories,
    d_features: Vec<f32>,
    density: Density,
}

/// How π differs from π_old over a batch; nothing is read back.
pub struct Comparison {
    /// E[r Â]
    pub surrogate: Scalar,
    /// E[KL(π_old ‖ π)], nats.
    pub kl_old_new: Scalar,
    /// E[KL(π ‖ π_old)], nats.
    pub kl_new_old: Scalar,
    /// E[entropy of π], nats.
    pub entropy: Scalar,
    /// Share of rows whose ratio r left 1 ± the clip range.
    pub clip_fraction: Scalar,
}

impl Policy {
    /// A policy with fresh weights drawn from `rng`.
    pub fn new(head: Head, obs_len: usize, net: &Net, rng: &mut Rng, device: &Device) -> Self {
        Self::with_heads(head, obs_len, net, &Heads::default(), rng, device)
    }

    /// The same with a choice of what follows the hidden layers.
    pub fn with_heads(
        head: Head,
        obs_len: usize,
        net: &Net,
        heads: &Heads,
        rng: &mut Rng,
        device: &Device,
    ) -> Self {
        Self::with_front(None, head, obs_len, &net.hidden, net, heads, rng, device)
    }

    /// The same with an encoder and a recurrent unit in the place of the first hidden layer, on the CPU.
    pub fn recurrent(head: Head, obs_len: usize, net: &Net, rng: &mut Rng, device: &Device) -> Self {
        let (width, rest) = net.hidden.split_first().map_or((1, &[][..]), |(width, rest)| (*width, rest));
        let front = Recurrence { inputs: obs_len, width };
        Self::with_front(Some(front), head, width, rest, net, &Heads::default(), rng, device)
    }

    #[allow(clippy::too_many_arguments, reason = "two callers")]
    fn with_front(
        front: Option<Recurrence>,
        head: Head,
        inputs: usize,
        hidden: &[usize],
        net: &Net,
        heads: &Heads,
        rng: &mut Rng,
        device: &Device,
    ) -> Self {
        let network = Network::new(inputs, hidden, head.outputs(), net.activation, heads, device);
        let mut params = network.init(net.init, 0.01, rng);
        if let Some(front) = front {
            params.extend(front.init(rng));
        }
        params.extend(std::iter::repeat_n(net.log_std_init as f32, head.extra_params()));
        let mut policy = Self {
            weights: Weights::new(params, device),
            network,
            front,
            head,
            device: device.clone(),
            host: Vec::new(),
            std: Vec::new(),
            work: Workspace::default(),
            memories: Memories::default(),
            d_features: Vec::new(),
            density: Density::default(),
        };
        policy.refresh();
        policy
    }

    /// Number of parameters, P.
    pub fn len(&self) -> usize {
        self.weights.len()
    }

    /// Never true.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Parameters before the log-stds.
    fn body_len(&self) -> usize {
        self.network.len() + self.front.map_or(0, Recurrence::len)
    }

    /// Numbers that it remembers of an episode, W; 0 where it remembers nothing.
    pub fn memory_len(&self) -> usize {
        self.front.map_or(0, |front| front.width)
    }

    /// What the network sees of the present observations `[rows, O]`: they themselves, or what is remembered after them, which
    /// `memory` `[rows, W]` becomes.
    pub fn perceive<'a>(&self, obs: &'a [f32], memory: &mut [f32], room: &'a mut Memories) -> &'a [f32] {
        match self.front {
            Some(front) => {
                front.step(&self.host[self.network.len()..], obs, memory, room);
                room.features()
            }
            None => obs,
        }
    }

    /// The action distribution's kind.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Takes θ over for acting, which goes on with the old parameters until then.
    pub fn refresh(&mut self) {
        match &self.weights.params {
            Vector::Host(params) => self.host.clone_from(params),
            Vector::Tensor(params) => self.host = to_host(params.clone()),
        }
        self.std.clear();
        self.std.extend(self.host[self.body_len()..].iter().map(|l| l.exp()));
    }

    /// Mean of `loss` over `rows`; its gradient goes to [`Self::weights`].
    pub fn grad(&mut self, rows: &Rows, loss: &impl PolicyLoss) -> Scalar {
        match (&mut self.weights.params, &mut self.weights.grad, rows) {
            (Vector::Host(params), Vector::Host(grad), Rows::Host(rows)) => {
                let len = self.network.len() + self.front.map_or(0, Recurrence::len);
                let (network, work) = (&self.network, &mut self.work);
                let x = features(self.front, &params[network.len()..], rows.past(), &mut self.memories);
                outputs(network, &self.head, params, x, &rows.masks, work);
                let (outputs, d_outputs) = work.outputs();
                let (log_std, d_extra) = (&params[len..], &mut grad[len..]);
                let mean = self.density.grad(&self.head, outputs, log_std, rows, loss, d_outputs, d_extra);
                network.vjp_slices(params, x, work, grad);
                if let Some(front) = self.front {
                    let (at, d) = (network.len(), &mut self.d_features);
                    d.resize(x.len(), 0.0);
                    network.input_vjp_slices(params, work, d);
                    front.backward(&params[at..], rows.past(), d, &mut self.memories, &mut grad[at..]);
                }
                Scalar::Host(mean)
            }
            (Vector::Tensor(_), _, Rows::Tensor(rows)) => {
                let mut value = None;
                let grad = self.grad_tensor(&rows.obs, rows.forbidden.as_ref(), |dist| {
                    let loss = loss.row(&TensorSample { dist, rows }).mean();
                    value = Some(loss.clone().inner());
                    loss
                });
                self.weights.grad = Vector::Tensor(grad);
                value.map_or(Scalar::Host(f64::NAN), Scalar::Tensor)
            }
            _ => apart(),
        }
    }

    /// How π differs from π_old, over `rows`; a ratio counts as clipped beyond 1 ± `clip`.
    pub fn compare(&mut self, rows: &Rows, clip: f64) -> Comparison {
        match (&self.weights.params, rows) {
            (Vector::Host(params), Rows::Host(rows)) => {
                let x = features(self.front, &params[self.network.len()..], rows.past(), &mut self.memories);
                let outputs = outputs(&self.network, &self.head, params, x, &rows.masks, &mut self.work);
                let len = self.network.len() + self.front.map_or(0, Recurrence::len);
                self.density.compare(&self.head, outputs, &params[len..], rows, clip)
            }
            (Vector::Tensor(params), Rows::Tensor(rows)) => {
                let dist = self.dist(params, &rows.obs, rows.forbidden.as_ref());
                let ratio = (dist.log_prob(&rows.actions) - rows.log_prob_old.clone()).exp(); // [B]
                let clipped = (ratio.clone() - 1.0).abs().greater_scalar(clip).float().mean();
                let mean = |column: Tensor<1>| Scalar::Tensor(column.mean());
                Comparison {
                    surrogate: mean(ratio * rows.advantage.clone()),
                    kl_old_new: mean(rows.dist_old.kl(&dist)),
                    kl_new_old: mean(dist.kl(&rows.dist_old)),
                    entropy: mean(dist.entropy()),
                    clip_fraction: Scalar::Tensor(clipped),
                }
            }
            _ => apart(),
        }
    }

    /// π(a|s) / π_old(a|s) of each row, `[B]`, in host memory.
    pub fn ratios(&mut self, rows: &HostRows, ratios: &mut Vec<f32>) {
        let Vector::Host(params) = &self.weights.params else { apart() };
        let len = self.body_len();
        let x = features(self.front, &params[self.network.len()..], rows.past(), &mut self.memories);
        let outputs = outputs(&self.network, &self.head, params, x, &rows.masks, &mut self.work);
        let (head, density) = (&self.head, &mut self.density);
        density.share(head, &params[len..], &rows.log_std_old);
        let (k, a) = (head.outputs(), head.action_len());
        ratios.clear();
        ratios.extend(outputs.chunks_exact(k).enumerate().map(|(i, outputs)| {
            let row = rows.row(i, a, k);
            kernels::exp(density.read(head, outputs, row.action) - row.log_prob_old)
        }));
    }

    /// Completes `rows`, which hold observations and actions, with π as π_old and the log-probabilities under it.
    pub(super) fn remember(&mut self, rows: &mut HostRows) {
        let Vector::Host(params) = &self.weights.params else { apart() };
        let len = self.body_len();
        let x = features(self.front, &params[self.network.len()..], rows.past(), &mut self.memories);
        let outputs = outputs(&self.network, &self.head, params, x, &rows.masks, &mut self.work);
        self.density.remember(&self.head, outputs, &params[len..], rows);
    }

    /// A linear map v ↦ (F + damping·I) v with F = mean over every n-th of `rows` of Jᵀ M J, the Fisher
    /// matrix of π_θ (M of the distribution, J the network's Jacobian): one tangent pass, one backward
    /// pass, no second derivatives. Of a recurrent policy, all rows of every n-th copy.
    pub fn fisher(&mut self, rows: &Rows, every: usize, damping: f64) -> Fisher<'_> {
        let at = match (&self.weights.params, rows) {
            (Vector::Host(params), Rows::Host(rows)) => {
                let copies = self.front.map_or(usize::MAX, |front| rows.memory.len() / front.width);
                let picked = rows.thinned(copies, every, self.memory_len());
                let x =
                    features(self.front, &params[self.network.len()..], picked.past(), &mut self.memories);
                outputs(&self.network, &self.head, params, x, &picked.masks, &mut self.work);
                At::Host { rows: picked, tangent: vec![0.0; params.len()], product: vec![0.0; params.len()] }
            }
            (Vector::Tensor(params), Rows::Tensor(rows)) => {
                let obs = every_row(&rows.obs, every, &self.device);
                let batch = obs.dims()[0] as f64;
                let (outputs, pass) = self.network.forward(params, obs);
                let forbidden = rows.forbidden.as_ref().map(|f| every_row(f, every, &self.device));
                let dist = self.head.dist(reachable(outputs, forbidden.as_ref()), self.extra(params));
                At::Tensor { pass, dist, batch }
            }
            _ => apart(),
        };
        Fisher { policy: self, at, damping }
    }

    /// Mean length of the features and mean of their gate in the last pass on the host, where the network has such.
    pub fn feature_means(&self) -> (Option<f64>, Option<f64>) {
        self.work.means()
    }

    /// Mean standard deviation of Gaussian actions.
    pub fn action_std(&self) -> Option<f64> {
        let n = self.std.len();
        (n > 0).then(|| self.std.iter().map(|s| f64::from(*s)).sum::<f64>() / n as f64)
    }

    /// Samples actions `[rows, action_len]` on the host for observations `[rows, O]`, allowed by `masks` `[rows, mask_len]`
    /// where there are some; `noise` `[rows, E]` holds standard normal numbers.
    pub fn sample(
        &self,
        obs: &[f32],
        masks: &[bool],
        noise: &[f32],
        rng: &mut Rng,
        work: &mut Workspace,
        actions: &mut [f32],
    ) {
        let outputs = outputs(&self.network, &self.head, &self.host, obs, masks, work);
        let (k, e) = (self.head.outputs(), self.head.extra_params());
        for (i, action) in actions.chunks_exact_mut(self.head.action_len()).enumerate() {
            let (outputs, noise) = (&outputs[i * k..(i + 1) * k], &noise[i * e..(i + 1) * e]);
            self.head.sample(outputs, &self.std, noise, rng, action);
        }
    }

    /// Actions `[rows, action_len]`, picked as `how` says, for observations `[rows, O]`, of those that `masks` `[rows,
    /// mask_len]` allow where there are some.
    pub fn pick(
        &self,
        obs: &[f32],
        masks: &[bool],
        how: Acting,
        rng: &mut Rng,
        work: &mut Workspace,
        actions: &mut [f32],
    ) {
        let outputs = outputs(&self.network, &self.head, &self.host, obs, masks, work);
        self.head.pick(outputs, &self.std, how, rng, actions);
    }

    /// Saves the weights, named and shaped by layer.
    pub fn save(&self, name: &str, state: &mut State) {
        let params = self.weights.to_host();
        save_parts(&self.network.parts(), &params, name, state);
        if let Some(front) = self.front {
            front.save(&params[self.network.len()..], name, state);
        }
        if self.head.extra_params() > 0 {
            state.put_f32(&format!("{name}.log_std"), &params[self.body_len()..]);
        }
    }

    /// Restores the weights.
    ///
    /// # Errors
    /// When an entry is missing or has another length.
    pub fn load(&mut self, name: &str, state: &State) -> Result<(), StateError> {
        let mut params = load_parts(&self.network.parts(), name, state)?;
        if let Some(front) = self.front {
            front.load(name, state, &mut params)?;
        }
        if self.head.extra_params() > 0 {
            params.extend_from_slice(state.f32(&format!("{name}.log_std"), self.head.extra_params())?);
        }
        self.weights.set(params);
        self.refresh();
        Ok(())
    }

    /// π(·|s) as tensors under parameters `[P]` at observations `[B, O]`, with what is `forbidden` `[B, K]` there.
    pub(crate) fn dist(&self, params: &Tensor<1>, obs: &Tensor<2>, forbidden: Option<&Tensor<2>>) -> Dist {
        let outputs = self.network.forward(params, obs.clone()).0;
        self.head.dist(reachable(outputs, forbidden), self.extra(params))
    }

    /// ∇_θ of `loss` `[P]`, a scalar function of π_θ(·|s) at observations `[B, O]`, by autodiff.
    fn grad_tensor(
        &self,
        obs: &Tensor<2>,
        forbidden: Option<&Tensor<2>>,
        loss: impl FnOnce(&Dist) -> Tensor<1>,
    ) -> Tensor<1> {
        let Vector::Tensor(params) = &self.weights.params else { apart() };
        let (outputs, pass) = self.network.forward(params, obs.clone());
        let outputs = outputs.autodiff().require_grad(); // [B, K]
        let extra = self.extra(params).map(|e| e.autodiff().require_grad()); // [1, E]
        let forbidden = forbidden.map(|f| f.clone().autodiff());
        let dist = self.head.dist(reachable(outputs.clone(), forbidden.as_ref()), extra.clone());
        let gradients = loss(&dist).backward();
        let zeros = |t: &Tensor<2>| t.clone().inner().zeros_like();
        let d_outputs = outputs.grad(&gradients).unwrap_or_else(|| zeros(&outputs));
        let d_extra = extra.map(|e| e.grad(&gradients).unwrap_or_else(|| zeros(&e)));
        self.vjp(params, &pass, d_outputs, d_extra)
    }

    fn extra(&self, params: &Tensor<1>) -> Option<Tensor<2>> {
        let n = self.head.extra_params();
        (n > 0).then(|| params.clone().narrow(0, self.network.len(), n).reshape([1, n]))
    }

    fn vjp(
        &self,
        params: &Tensor<1>,
        pass: &Pass,
        d_outputs: Tensor<2>,
        d_extra: Option<Tensor<2>>,
    ) -> Tensor<1> {
        let grad = self.network.vjp(params, pass, d_outputs);
        match d_extra {
            Some(d) => Tensor::cat(vec![grad, d.reshape([self.head.extra_params()])], 0),
            None => grad,
        }
    }
}

/// Network outputs `[B, K]` at observations `[B, O]`, with what `masks` forbid out of reach.
fn outputs<'a>(
    network: &Network,
    head: &Head,
    params: &[f32],
    obs: &[f32],
    masks: &[bool],
    work: &'a mut Workspace,
) -> &'a [f32] {
    network.forward_slices(params, obs, work);
    let outputs = work.outputs_mut();
    head.forbid(masks, outputs);
    outputs
}

/// What the network sees of the rows of a rollout: observations, or what is remembered after them.
fn features<'a>(
    front: Option<Recurrence>,
    params: &[f32],
    past: Past<'a>,
    memories: &'a mut Memories,
) -> &'a [f32] {
    match front {
        Some(front) => front.forward(params, past, memories),
        None => past.obs,
    }
}

/// Outputs `[B, K]` plus what puts some of them out of reach.
pub(super) fn reachable(outputs: Tensor<2>, forbidden: Option<&Tensor<2>>) -> Tensor<2> {
    match forbidden {
        Some(forbidden) => outputs + forbidden.clone(),
        None => outputs,
    }
}

/// Every n-th row, `[⌈B/n⌉, columns]`.
fn every_row(rows: &Tensor<2>, n: usize, device: &Device) -> Tensor<2> {
    if n == 1 {
        return rows.clone();
    }
    let picked: Vec<u32> = (0..rows.dims()[0] as u32).step_by(n).collect();
    rows.clone().select(0, device.indices(&picked))
}

/// The rows of a batch under a policy's loss, as tensors on an autodiff graph.
pub(super) struct TensorSample<'a> {
    pub(super) dist: &'a Dist,
    pub(super) rows: &'a TensorRows,
}

impl Sample for TensorSample<'_> {
    type X = Tensor<1>;

    fn ratio(&self) -> Tensor<1> {
        (self.log_prob() - self.rows.log_prob_old.clone().autodiff()).exp()
    }

    fn log_prob(&self) -> Tensor<1> {
        self.dist.log_prob(&self.rows.actions.clone().autodiff())
    }

    fn entropy(&self) -> Tensor<1> {
        self.dist.entropy()
    }

    fn kl(&self) -> Tensor<1> {
        self.dist.kl(&self.rows.dist_old.constant())
    }

    fn advantage(&self) -> Tensor<1> {
        self.rows.advantage.clone().autodiff()
    }
}

/// Products with the damped Fisher matrix of a policy.
pub struct Fisher<'a> {
    policy: &'a mut Policy,
    at: At,
    damping: f64,
}

/// Where the Fisher matrix is taken: what its products need of the forward pass.
#[allow(clippy::large_enum_variant, reason = "few live at a time, and tensors are handles")]
enum At {
    Host { rows: HostRows, tangent: Vec<f32>, product: Vec<f32> },
    Tensor { pass: Pass, dist: Dist, batch: f64 },
}

impl Fisher<'_> {
    /// (F + damping·I) `v` into `out`, both `[P]` in host memory.
    pub fn product_slices(&mut self, v: &[f64], out: &mut [f64]) {
        let policy = &mut *self.policy;
        let (At::Host { rows, tangent, product }, Vector::Host(params)) =
            (&mut self.at, &policy.weights.params)
        else {
            apart()
        };
        tangent.iter_mut().zip(v).for_each(|(t, v)| *t = *v as f32);
        let (at, len) =
            (policy.network.len(), policy.network.len() + policy.front.map_or(0, Recurrence::len));
        let (work, memories, d) = (&mut policy.work, &mut policy.memories, &mut policy.d_features);
        let past = rows.past();
        let moved = policy.front.map(|front| {
            front.tangent(&params[at..], past, &tangent[at..], memories, d);
            d.as_slice()
        });
        let x = if policy.front.is_some() { memories.features() } else { past.obs };
        policy.network.jvp_slices(params, x, moved, tangent, work); // J v
        product[len..].copy_from_slice(&tangent[len..]);
        let (outputs, d_outputs) = work.outputs();
        let batch = (outputs.len() / policy.head.outputs()) as f64;
        let (log_std, d_extra) = (&params[len..], &mut product[len..]);
        policy.density.fisher(&policy.head, outputs, log_std, d_outputs, d_extra); // M J v
        policy.network.vjp_slices(params, x, work, product); // Jᵀ M J v
        if let Some(front) = policy.front {
            policy.network.input_vjp_slices(params, work, d);
            front.backward(&params[at..], past, d, memories, &mut product[at..]);
        }
        for ((out, f), v) in out.iter_mut().zip(product).zip(v) {
            *out = f64::from(*f) / batch + self.damping * v;
        }
    }

    /// (F + damping·I) `v`, both `[P]` as tensors.
    pub fn product(&self, v: &Tensor<1>) -> Tensor<1> {
        let policy = &*self.policy;
        let (At::Tensor { pass, dist, batch }, Vector::Tensor(params)) = (&self.at, &policy.weights.params)
        else {
            apart()
        };
        let d_outputs = policy.network.jvp(params, pass, v); // J v, [B, K]
        let (m_outputs, m_extra) = dist.fisher(d_outputs, policy.extra(v)); // M J v
        policy.vjp(params, pass, m_outputs, m_extra) / *batch + v.clone() * self.damping // Jᵀ M J v
    }

    /// xᵀ (F + damping·I) x
    pub fn curvature(&mut self, x: &Direction) -> Scalar {
        match x {
            Direction::Host(x) => {
                let mut fx = vec![0.0; x.len()];
                self.product_slices(x, &mut fx);
                Scalar::Host(dot(x, &fx))
            }
            Direction::Tensor(x) => Scalar::Tensor(x.clone().dot(self.product(x))),
        }
    }
}

/// The value function V_φ of states, or Q_φ of states and actions side by side.
#[derive(Clone)]
pub struct Critic {
    network: Network,
    /// φ and the gradient of the loss last asked for, `[P]`.
    pub weights: Weights,
    work: Workspace,
    /// Derivatives with respect to the inputs last asked for, `[B, I]`.
    d_inputs: Vec<f32>,
}

impl Critic {
    /// A value function with fresh weights drawn from `rng`.
    pub fn new(obs_len: usize, net: &Net, rng: &mut Rng, device: &Device) -> Self {
        Self::with_heads(obs_len, net, &Heads::default(), rng, device)
    }

    /// The same with a choice of what follows the hidden layers.
    pub fn with_heads(obs_len: usize, net: &Net, heads: &Heads, rng: &mut Rng, device: &Device) -> Self {
        let network = Network::new(obs_len, &net.hidden, 1, net.activation, heads, device);
        let weights = Weights::new(network.init(net.init, 1.0, rng), device);
        Self { weights, network, work: Workspace::default(), d_inputs: Vec::new() }
    }

    /// Number of parameters, P.
    pub fn len(&self) -> usize {
        self.network.len()
    }

    /// Never true.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// V(s), `[B]`, for observations `[B, O]` in host memory, added to `out`.
    pub fn values(&mut self, obs: &[f32], out: &mut Vec<f32>, device: &Device) {
        match &self.weights.params {
            Vector::Host(params) => {
                out.extend_from_slice(self.network.forward_slices(params, obs, &mut self.work));
            }
            Vector::Tensor(_) => {
                let obs = device.matrix(obs.to_vec(), self.network.inputs());
                out.extend(to_host(self.values_tensor(obs)));
            }
        }
    }

    /// V(s), `[B]`, for observations `[B, O]` as tensors.
    pub(super) fn values_tensor(&self, obs: Tensor<2>) -> Tensor<1> {
        let Vector::Tensor(params) = &self.weights.params else { apart() };
        let [batch, _] = obs.dims();
        self.network.forward(params, obs).0.reshape([batch])
    }

    /// Mean of `loss` over `rows`; its gradient goes to [`Self::weights`].
    pub fn grad(&mut self, rows: &Rows, loss: &impl ValueLoss) -> Scalar {
        match rows {
            Rows::Host(rows) => self.grad_slices(&rows.obs, &rows.ret, &rows.value_old, loss),
            Rows::Tensor(rows) => self.grad_tensor(&rows.obs, &rows.ret, &rows.value_old, loss),
        }
    }

    /// Mean of ½ (V(x) − y)² over inputs x `[B, I]` and targets y `[B]` in host memory; its gradient goes to
    /// [`Self::weights`].
    pub fn regress(&mut self, inputs: &[f32], targets: &[f32], device: &Device) -> Scalar {
        // One number a row, never a row of numbers.
        assert_eq!(inputs.len(), targets.len() * self.network.inputs());
        // Unclipped: old values do not count.
        let loss = SquaredError { clip: 0.0, weight: 0.5 };
        if device.is_cpu() {
            return self.grad_slices(inputs, targets, targets, &loss);
        }
        let targets = device.vector(targets.to_vec());
        self.grad_tensor(&device.matrix(inputs.to_vec(), self.network.inputs()), &targets, &targets, &loss)
    }

    fn grad_slices(&mut self, x: &[f32], ret: &[f32], value_old: &[f32], loss: &impl ValueLoss) -> Scalar {
        let (Vector::Host(params), Vector::Host(grad)) = (&self.weights.params, &mut self.weights.grad)
        else {
            apart()
        };
        self.network.forward_slices(params, x, &mut self.work);
        let (values, d_values) = self.work.outputs();
        let share = 1.0 / ret.len() as f32;
        let mut sum = 0.0;
        for i in 0..values.len() {
            let value = Dual::<1>::variable(values[i], 0);
            let row = loss.row(value, Dual::constant(ret[i]), Dual::constant(value_old[i]));
            sum += f64::from(row.value);
            d_values[i] = row.slope[0] * share;
        }
        self.network.vjp_slices(params, x, &mut self.work, grad);
        Scalar::Host(sum / ret.len() as f64)
    }

    fn grad_tensor(
        &mut self,
        x: &Tensor<2>,
        ret: &Tensor<1>,
        value_old: &Tensor<1>,
        loss: &impl ValueLoss,
    ) -> Scalar {
        let Vector::Tensor(params) = &self.weights.params else { apart() };
        let [batch, _] = x.dims();
        let (values, pass) = self.network.forward(params, x.clone());
        let values = values.reshape([batch]).autodiff().require_grad(); // [B]
        let constant = |t: &Tensor<1>| t.clone().autodiff();
        let loss = loss.row(values.clone(), constant(ret), constant(value_old)).mean();
        let gradients = loss.backward();
        let d_values = values.grad(&gradients).unwrap_or_else(|| values.clone().inner().zeros_like());
        self.weights.grad = Vector::Tensor(self.network.vjp(params, &pass, d_values.reshape([batch, 1])));
        Scalar::Tensor(loss.inner())
    }

    /// Derivative of Σ `weights` ∘ V(x) with respect to the inputs x `[B, I]` that [`Self::values`] was last asked
    /// for, `[B, I]`.
    pub fn input_slopes(&mut self, inputs: &[f32], weights: &[f32], device: &Device) -> &[f32] {
        self.d_inputs.resize(inputs.len(), 0.0);
        match &self.weights.params {
            Vector::Host(params) => {
                self.work.outputs().1.copy_from_slice(weights);
                self.network.input_vjp_slices(params, &mut self.work, &mut self.d_inputs);
            }
            Vector::Tensor(params) => {
                let x = device.matrix(inputs.to_vec(), self.network.inputs()).autodiff().require_grad();
                let (values, _) = self.network.forward(&params.clone().autodiff(), x.clone());
                let weights = device.matrix(weights.to_vec(), 1).autodiff();
                let gradients = (values * weights).sum().backward();
                let slopes = x.grad(&gradients).unwrap_or_else(|| x.clone().inner().zeros_like());
                self.d_inputs.copy_from_slice(&to_host(slopes));
            }
        }
        &self.d_inputs
    }

    /// Moves the parameters towards those of `other` by a share τ of the way (Polyak averaging).
    pub fn track(&mut self, other: &Self, tau: f64) {
        match (&mut self.weights.params, &other.weights.params) {
            (Vector::Host(params), Vector::Host(other)) => kernels::mix(params, other, tau as f32),
            (Vector::Tensor(params), Vector::Tensor(other)) => {
                *params = params.clone() + (other.clone() - params.clone()) * tau;
            }
            _ => apart(),
        }
    }

    /// E[(V − R)²] over `rows`.
    pub(super) fn error(&mut self, rows: &Rows) -> Scalar {
        match (&self.weights.params, rows) {
            (Vector::Host(params), Rows::Host(rows)) => {
                let values = self.network.forward_slices(params, &rows.obs, &mut self.work);
                let square = |(v, r): (&f32, &f32)| (f64::from(*v) - f64::from(*r)).powi(2);
                let sum = values.iter().zip(&rows.ret).map(square).sum::<f64>();
                Scalar::Host(sum / rows.ret.len() as f64)
            }
            (Vector::Tensor(_), Rows::Tensor(rows)) => {
                let error = self.values_tensor(rows.obs.clone()) - rows.ret.clone();
                Scalar::Tensor(error.square().mean())
            }
            _ => apart(),
        }
    }

    /// Saves the weights, named and shaped by layer.
    pub fn save(&self, name: &str, state: &mut State) {
        save_parts(&self.network.parts(), &self.weights.to_host(), name, state);
    }

    /// Restores the weights.
    ///
    /// # Errors
    /// When an entry is missing or has another length.
    pub fn load(&mut self, name: &str, state: &State) -> Result<(), StateError> {
        self.weights.set(load_parts(&self.network.parts(), name, state)?);
        Ok(())
    }
}

/// Saves parameters, whose names and shapes are `parts`, under `name`.
pub(super) fn save_parts(parts: &[(String, Vec<usize>)], params: &[f32], name: &str, state: &mut State) {
    let mut start = 0;
    for (part, shape) in parts {
        let end = start + shape.iter().product::<usize>();
        state.put(&format!("{name}.{part}"), Array::F32(shape.clone(), params[start..end].to_vec()));
        start = end;
    }
}

/// What [`save_parts`] saved.
pub(super) fn load_parts(
    parts: &[(String, Vec<usize>)],
    name: &str,
    state: &State,
) -> Result<Vec<f32>, StateError> {
    let mut params = Vec::new();
    for (part, shape) in parts {
        params.extend_from_slice(state.f32(&format!("{name}.{part}"), shape.iter().product())?);
    }
    Ok(params)
}

#[cfg(all(test, feature = "cpu"))]
#[allow(clippy::unwrap_used, reason = "helpers of tests")]
mod tests {
    use super::super::testing::{
        actions, all_heads, close, devices, direction, heads, loss_and_grad, masked_rows, normals, params,
        policy, policy_on, policy_with, rng, rows, scalar, shift_log_prob_old,
    };
    use super::super::weights::{read, read_both};
    use super::*;
    use crate::core::loss::Real;

    const ROWS: usize = 4;

    struct LogProb;
    impl PolicyLoss for LogProb {
        fn row<S: Sample>(&self, pi: &S) -> S::X {
            pi.log_prob()
        }
    }

    /// Uses everything that a loss may.
    struct Everything;
    impl PolicyLoss for Everything {
        fn row<S: Sample>(&self, pi: &S) -> S::X {
            let ratio = pi.ratio();
            let clipped = ratio.clone().clamp(0.7, 1.3) * pi.advantage();
            let worse = (ratio * pi.advantage()).min(clipped.clone());
            let better = (pi.advantage() * 0.5).max(clipped);
            pi.log_prob() * 0.1 - worse + better * 0.2 + pi.kl().square() - pi.entropy() * 0.3
        }
    }

    struct Kl;
    impl PolicyLoss for Kl {
        fn row<S: Sample>(&self, pi: &S) -> S::X {
            pi.kl()
        }
    }

    struct Mixed;
    impl PolicyLoss for Mixed {
        fn row<S: Sample>(&self, pi: &S) -> S::X {
            pi.log_prob() * pi.advantage() + pi.entropy() * 0.3 - pi.kl()
        }
    }

    /// Two inputs and three hidden units: at most 30 parameters.
    fn small(head: Head) -> (Policy, Vec<f32>) {
        (policy(head, 2, &[3]), normals(2 * ROWS, 9))
    }

    /// Network outputs `[B, K]` of the acting copy.
    fn outputs(policy: &Policy, obs: &[f32]) -> Vec<f32> {
        policy.network.forward_slices(&policy.host, obs, &mut Workspace::default()).to_vec()
    }

    /// Actions `[action_len]` with weights that give the expectation of every polynomial of degree 5 under
    /// π(·|s): all actions with their probabilities, or Gauss-Hermite nodes.
    fn quadrature(policy: &Policy, obs: &[f32]) -> Vec<(Vec<f32>, f64)> {
        let outputs = outputs(policy, obs);
        // Each dimension's values with their weights; the action is centre + scale · value.
        let mut options: Vec<Vec<(f32, f64)>> = Vec::new();
        let (mut centre, mut scale) = (Vec::new(), Vec::new());
        for (part, place) in policy.head().parts() {
            let outputs = &outputs[place.outputs];
            if let Head::Categorical { sizes } = part {
                let mut start = 0;
                options.extend(sizes.iter().map(|n| {
                    let weights: Vec<f64> =
                        outputs[start..start + n].iter().map(|l| f64::from(*l).exp()).collect();
                    start += n;
                    (0..*n).map(|a| (a as f32, weights[a] / weights.iter().sum::<f64>())).collect()
                }));
                centre.extend(vec![0.0; sizes.len()]);
                scale.extend(vec![1.0; sizes.len()]);
            } else {
                let nodes = vec![(0.0, 2.0 / 3.0), (3f32.sqrt(), 1.0 / 6.0), (-3f32.sqrt(), 1.0 / 6.0)];
                options.extend(vec![nodes; outputs.len()]);
                centre.extend_from_slice(outputs);
                scale.extend_from_slice(&policy.std[place.extra]);
            }
        }
        let mut points = vec![(Vec::new(), 1.0)];
        for options in &options {
            let extend = |(action, weight): &(Vec<f32>, f64)| {
                let longer = |(a, w): &(f32, f64)| ([action.as_slice(), &[*a]].concat(), weight * w);
                options.iter().map(longer).collect::<Vec<_>>()
            };
            points = points.iter().flat_map(extend).collect();
        }
        for (action, _) in &mut points {
            for d in 0..action.len() {
                action[d] = centre[d] + scale[d] * action[d];
            }
        }
        points
    }

    /// F by its definition: the mean over states of E[∇ln π ∇ln πᵀ], row by row.
    fn dense_fisher(policy: &mut Policy, obs: &[f32]) -> Vec<Vec<f64>> {
        let n = policy.len();
        let mut fisher = vec![vec![0.0; n]; n];
        for s in obs.chunks(2) {
            for (action, weight) in quadrature(policy, s) {
                let one = rows(policy, s.to_vec(), action, vec![0.0]);
                let (_, score) = loss_and_grad(policy, &one, &LogProb);
                for i in 0..n {
                    for j in 0..n {
                        fisher[i][j] += weight / ROWS as f64 * f64::from(score[i]) * f64::from(score[j]);
                    }
                }
            }
        }
        fisher
    }

    fn product(policy: &mut Policy, rows: &Rows, every: usize, damping: f64, v: &Direction) -> Vec<f64> {
        let mut fisher = policy.fisher(rows, every, damping);
        match v {
            Direction::Host(v) => {
                let mut out = vec![0.0; v.len()];
                fisher.product_slices(v, &mut out);
                out
            }
            Direction::Tensor(v) => to_host(fisher.product(v)).into_iter().map(f64::from).collect(),
        }
    }

    #[test]
    fn fisher_product_is_the_mean_outer_product_of_scores() {
        for head in heads() {
            let (mut policy, obs) = small(head.clone());
            let fisher = dense_fisher(&mut policy, &obs);
            let rows = rows(&mut policy, obs, actions(&head, ROWS, 1), vec![0.0; ROWS]);
            for i in 0..policy.len() {
                let unit: Vec<f64> = (0..policy.len()).map(|j| f64::from(u8::from(i == j))).collect();
                let mut column: Vec<f64> = fisher.iter().map(|row| row[i]).collect();
                column[i] += 0.25; // the damping
                close(&product(&mut policy, &rows, 1, 0.25, &Direction::Host(unit)), &column, 1e-5);
            }
        }
    }

    /// KL(π ‖ π_old) curves like F around π_old.
    #[test]
    fn fisher_product_is_the_derivative_of_the_kl_gradient() {
        const H: f64 = 2e-3;
        for (device, kind) in
            devices().into_iter().flat_map(|d| all_heads().into_iter().map(move |h| (d.clone(), h)))
        {
            for head in heads() {
                let mut policy = policy_with(&kind, &device, head.clone(), 2, &[3], Activation::Tanh);
                let obs = normals(2 * ROWS, 9);
                let rows = rows(&mut policy, obs, actions(&head, ROWS, 1), vec![0.0; ROWS]);
                let theta = policy.weights.params.clone();
                let v = direction(normals(policy.len(), 3), &device);
                let ours = product(&mut policy, &rows, 1, 0.0, &v);
                let mut gradient = |h: f64| {
                    policy.weights.set_moved(&theta, &scalar(h, &device), &v);
                    loss_and_grad(&mut policy, &rows, &Kl).1
                };
                let (ahead, behind) = (gradient(H), gradient(-H));
                let numeric: Vec<f64> =
                    ahead.iter().zip(behind).map(|(a, b)| f64::from(a - b) / (2.0 * H)).collect();
                close(&ours, &numeric, 2e-3);
            }
        }
    }

    /// Up to a part of the largest entry: sums over rows cancel.
    #[track_caller]
    fn close_to_the_largest<T: Copy + Into<f64>>(a: &[T], b: &[T], tolerance: f64) {
        let size = b.iter().fold(1.0f64, |size, b| size.max((*b).into().abs()));
        let relative = |x: &[T]| x.iter().map(|x| (*x).into() / size).collect::<Vec<f64>>();
        close(&relative(a), &relative(b), tolerance);
    }

    /// Masks that allow about half of the options, and the actions.
    fn masks_around(head: &Head, actions: &[f32]) -> Vec<bool> {
        let mut masks = Vec::new();
        for (i, action) in actions.chunks_exact(head.action_len()).enumerate() {
            for (part, place) in head.parts() {
                let Head::Categorical { sizes } = part else { continue };
                for (n, a) in sizes.iter().zip(&action[place.action]) {
                    masks.extend((0..*n).map(|j| j == *a as usize || (i + j) % 2 == 0));
                }
            }
        }
        masks
    }

    /// The fused pass and the graph, on every shape: values, gradients, comparisons, Fisher products.
    #[test]
    fn slices_agree_with_the_tensors() {
        all_heads().iter().for_each(slices_and_tensors);
    }

    fn slices_and_tensors(kind: &Heads) {
        // Norms, series and logarithms differ in their last bits, and a KL divergence squares them.
        let tolerance = if *kind == Heads::default() { 1e-5 } else { 1e-4 };
        let more = [Head::Gaussian { dim: 6 }, Head::Categorical { sizes: vec![5, 2, 20] }];
        for (masked, head) in heads().into_iter().chain(more).flat_map(|h| [(false, h.clone()), (true, h)]) {
            for (obs_len, hidden) in [(2, &[3][..]), (17, &[64, 64]), (1, &[]), (5, &[40, 16])] {
                for n in [1, 2, 33, 300] {
                    for activation in [Activation::Tanh, Activation::Relu] {
                        let mut found = devices().into_iter().map(|device| {
                            let mut policy =
                                policy_with(kind, &device, head.clone(), obs_len, hidden, activation);
                            let (obs, actions) = (normals(n * obs_len, 1), actions(&head, n, 2));
                            // The first option is always allowed, and so is what was done.
                            let masks = if masked { masks_around(&head, &actions) } else { Vec::new() };
                            let mut rows = masked_rows(&mut policy, obs, masks, actions, normals(n, 3));
                            let shift: Vec<f32> = normals(n, 4).iter().map(|x| 0.3 * x).collect();
                            shift_log_prob_old(&mut rows, &shift);
                            let v = direction(normals(policy.len(), 5), &device);
                            let theta = policy.weights.params.clone();
                            policy.weights.set_moved(&theta, &scalar(0.05, &device), &v);
                            let (loss, grad) = loss_and_grad(&mut policy, &rows, &Everything);
                            let c = policy.compare(&rows, 0.2);
                            let (compared, [clip_fraction]) = read_both(
                                [c.surrogate, c.kl_old_new, c.kl_new_old, c.entropy],
                                [c.clip_fraction],
                            );
                            let fisher = product(&mut policy, &rows, 2, 0.1, &v);
                            (loss, grad, compared, clip_fraction, fisher)
                        });
                        let (ours, theirs) = (found.next().unwrap(), found.next().unwrap());
                        close(&[ours.0], &[theirs.0], tolerance);
                        close_to_the_largest(&ours.1, &theirs.1, tolerance);
                        close(&ours.2, &theirs.2, tolerance);
                        assert!((ours.3 - theirs.3).abs() <= 1.0 / n as f64 + 1e-6, "at the clip's edge");
                        close_to_the_largest(&ours.4, &theirs.4, tolerance);
                    }
                }
            }
        }
    }

    #[test]
    fn grad_agrees_with_finite_differences() {
        const H: f32 = 4e-3;
        for (device, kind) in
            devices().into_iter().flat_map(|d| all_heads().into_iter().map(move |h| (d.clone(), h)))
        {
            for head in heads() {
                let mut policy = policy_with(&kind, &device, head.clone(), 2, &[3], Activation::Tanh);
                let (obs, actions) = (normals(2 * ROWS, 9), vec![1.0; ROWS * head.action_len()]);
                let theta = params(&policy);
                policy.weights.set(theta.iter().map(|x| x + 0.1).collect());
                let rows = rows(&mut policy, obs, actions, normals(ROWS, 4));
                policy.weights.set(theta.clone());
                let (_, ours) = loss_and_grad(&mut policy, &rows, &Mixed);
                let mut at = |i: usize, h: f32| {
                    let mut moved = theta.clone();
                    moved[i] += h;
                    policy.weights.set(moved);
                    loss_and_grad(&mut policy, &rows, &Mixed).0
                };
                let numeric: Vec<f64> =
                    (0..theta.len()).map(|i| (at(i, H) - at(i, -H)) / f64::from(2.0 * H)).collect();
                close(&ours, &numeric, 2e-3);
                let large = ours.iter().filter(|g| g.abs() > 1e-3).count();
                assert!(large > theta.len() / 2, "a loss that matters");
            }
        }
    }

    #[test]
    fn critic_grad_agrees_with_the_tensors_and_with_finite_differences() {
        const H: f32 = 1e-2;
        for (clip, kind) in [0.0, 0.3].into_iter().flat_map(|c| all_heads().into_iter().map(move |h| (c, h)))
        {
            let loss = SquaredError { clip, weight: 0.5 };
            let mut found = devices().into_iter().map(|device| {
                let net = Net { hidden: vec![3], ..Net::default() };
                let mut critic = Critic::with_heads(2, &net, &kind, &mut rng(0), &device);
                let theta = normals(critic.len(), 1);
                let mut policy = policy_on(&device, Head::Gaussian { dim: 1 }, 2, &[3], Activation::Tanh);
                let mut rows = rows(&mut policy, normals(2 * ROWS, 2), vec![0.0; ROWS], vec![0.0; ROWS]);
                let (ret, value_old) = (normals(ROWS, 3), normals(ROWS, 5));
                match &mut rows {
                    Rows::Host(rows) => (rows.ret, rows.value_old) = (ret, value_old),
                    Rows::Tensor(rows) => {
                        (rows.ret, rows.value_old) = (device.vector(ret), device.vector(value_old));
                    }
                }
                critic.weights.set(theta.clone());
                let value = read([critic.grad(&rows, &loss)])[0];
                let ours = critic.weights.grad_to_host();
                let mut at = |i: usize, h: f32| {
                    let mut moved = theta.clone();
                    moved[i] += h;
                    critic.weights.set(moved);
                    read([critic.grad(&rows, &loss)])[0]
                };
                let numeric: Vec<f64> =
                    (0..theta.len()).map(|i| (at(i, H) - at(i, -H)) / f64::from(2.0 * H)).collect();
                close(&ours, &numeric, 5e-3);
                (value, ours)
            });
            let (ours, theirs) = (found.next().unwrap(), found.next().unwrap());
            close(&[ours.0], &[theirs.0], 1e-5);
            close(&ours.1, &theirs.1, 1e-5);
        }
    }

    #[test]
    fn acting_samples_row_by_row() {
        for head in heads() {
            let (policy, obs) = small(head.clone());
            let outputs = outputs(&policy, &obs);
            let (k, e, a) = (head.outputs(), head.extra_params(), head.action_len());
            let (mut greedy, mut sampled) = (vec![0.0; ROWS * a], vec![0.0; ROWS * a]);
            let (mut work, noise) = (Workspace::default(), normals(ROWS * e, 6));
            policy.pick(&obs, &[], Acting::Greedy, &mut rng(0), &mut work, &mut greedy);
            policy.sample(&obs, &[], &noise, &mut rng(5), &mut work, &mut sampled);
            let (mut best, mut drawn, mut rng) = (vec![0.0; ROWS * a], vec![0.0; ROWS * a], rng(5));
            for row in 0..ROWS {
                let (o, n) = (&outputs[row * k..(row + 1) * k], &noise[row * e..(row + 1) * e]);
                head.greedy(o, &mut best[row * a..(row + 1) * a]);
                head.sample(o, &policy.std, n, &mut rng, &mut drawn[row * a..(row + 1) * a]);
            }
            assert_eq!((greedy, sampled), (best, drawn));
        }
    }

    /// A policy that remembers, and three steps of two copies, of which each begins an episode at another time.
    fn remembering(head: &Head) -> (Policy, Rows) {
        let net = Net { hidden: vec![3, 4], ..Net::default() };
        let mut policy = Policy::recurrent(head.clone(), 2, &net, &mut rng(0), &Device::cpu());
        policy.weights.set(normals(policy.len(), 1).iter().map(|x| 0.5 * x).collect());
        policy.refresh();
        let mut rows = HostRows {
            obs: normals(2 * 6, 9),
            actions: actions(head, 6, 1),
            advantage: normals(6, 4),
            value_old: vec![0.0; 6],
            ret: vec![0.0; 6],
            starts: vec![true, false, false, false, false, true],
            memory: normals(6, 5),
            ..HostRows::default()
        };
        policy.remember(&mut rows);
        (policy, Rows::Host(rows))
    }

    #[test]
    fn gradients_go_back_through_what_is_remembered() {
        const H: f32 = 5e-3;
        for head in heads() {
            let (mut policy, mut rows) = remembering(&head);
            shift_log_prob_old(&mut rows, &normals(6, 7).iter().map(|x| 0.1 * x).collect::<Vec<f32>>());
            let (_, ours) = loss_and_grad(&mut policy, &rows, &Mixed);
            let theta = params(&policy);
            for i in 0..policy.len() {
                let mut at = |h: f32| {
                    let mut moved = theta.clone();
                    moved[i] += h;
                    policy.weights.set(moved);
                    loss_and_grad(&mut policy, &rows, &Mixed).0
                };
                let numeric = (at(H) - at(-H)) / f64::from(2.0 * H);
                close(&[ours[i]], &[numeric], 3e-3);
            }
        }
    }

    #[test]
    fn the_fisher_product_goes_through_what_is_remembered() {
        const H: f64 = 5e-3;
        for head in heads() {
            let (mut policy, rows) = remembering(&head);
            let device = Device::cpu();
            let theta = policy.weights.params.clone();
            let v = direction(normals(policy.len(), 3), &device);
            let ours = product(&mut policy, &rows, 1, 0.0, &v);
            let mut gradient = |h: f64| {
                policy.weights.set_moved(&theta, &scalar(h, &device), &v);
                loss_and_grad(&mut policy, &rows, &Kl).1
            };
            let (ahead, behind) = (gradient(H), gradient(-H));
            let numeric: Vec<f64> =
                ahead.iter().zip(behind).map(|(a, b)| f64::from(a - b) / (2.0 * H)).collect();
            close(&ours, &numeric, 3e-3);

            // Every second copy: the first alone.
            policy.weights.set_moved(&theta, &scalar(0.0, &device), &v);
            let all = rows.host();
            let pick = |from: &[f32]| -> Vec<f32> {
                let len = from.len() / 6;
                from.chunks(len).step_by(2).flatten().copied().collect()
            };
            let mut first = HostRows {
                obs: pick(&all.obs),
                actions: pick(&all.actions),
                advantage: pick(&all.advantage),
                starts: all.starts.iter().step_by(2).copied().collect(),
                memory: all.memory[..3].to_vec(),
                ..HostRows::default()
            };
            policy.remember(&mut first);
            let alone = product(&mut policy, &Rows::Host(first), 1, 0.0, &v);
            close(&product(&mut policy, &rows, 2, 0.0, &v), &alone, 1e-6);
        }
    }

    /// Acting follows the parameters only from one refresh to the next: that is what makes π_old old.
    #[test]
    fn acting_goes_on_with_the_old_parameters_until_refreshed() {
        let (mut policy, obs) = small(Head::Gaussian { dim: 2 });
        let act = |policy: &Policy| {
            let mut actions = vec![0.0; ROWS * 2];
            policy.pick(&obs, &[], Acting::Greedy, &mut rng(0), &mut Workspace::default(), &mut actions);
            actions
        };
        let (before, std) = (act(&policy), policy.action_std());
        policy.weights.set(params(&policy).iter().map(|x| x + 0.5).collect());
        assert_eq!((act(&policy), policy.action_std()), (before.clone(), std));
        policy.refresh();
        assert!(act(&policy) != before && policy.action_std() != std);
    }

    #[test]
    fn saved_weights_load_exactly_and_only_into_the_same_shape() {
        for (head, kind) in
            heads().into_iter().flat_map(|h| all_heads().into_iter().map(move |k| (h.clone(), k)))
        {
            let policy = policy_with(&kind, &Device::cpu(), head.clone(), 2, &[3], Activation::Tanh);
            let obs = normals(2 * ROWS, 9);
            let mut state = State::new();
            policy.save("policy", &mut state);
            let fresh = |hidden| {
                let net = Net { hidden, ..Net::default() };
                Policy::with_heads(head.clone(), 2, &net, &kind, &mut rng(77), &Device::cpu())
            };
            let mut other = fresh(vec![3]);
            assert_ne!(params(&other), params(&policy));
            other.load("policy", &state).unwrap();
            assert_eq!(params(&other), params(&policy));
            let act = |policy: &Policy| {
                let mut actions = vec![0.0; ROWS * head.action_len()];
                policy.pick(&obs, &[], Acting::Greedy, &mut rng(0), &mut Workspace::default(), &mut actions);
                actions
            };
            assert_eq!(act(&other), act(&policy), "the acting copy is loaded as well");
            assert!(fresh(vec![4]).load("policy", &state).is_err());
            assert!(other.load("elsewhere", &state).is_err());
        }
    }
}
