//! Actor and critic with one encoder: what agents with hyperbolic heads learn.
//!
//! observation → [`Trunk`] → head of the policy ([`Mlr`]) and head of the value ([`Mlr`], [`ValueHead`]).
//!
//! On the CPU everything computes on slices. On other devices gradients and Adam's steps do on tensors, while a copy in host memory
//! acts, evaluates and compares: batches stay on the host.

use std::cell::RefCell;

use burn::tensor::Tensor;
use steadfast_envs::rng::{self, Purpose, Rng};
use steadfast_envs::{State, StateError, VecEnv};

use super::advantages::explained_variance;
use super::batch::{Batch, HostRows, Rows, TensorRows};
use super::density::Density;
use super::device::Device;
use super::dist::Head;
use super::hyperbolic::dot;
use super::hyperbolic::measure::{rank_correlation, relative_delta};
use super::hyperbolic::mlr::{self, Mlr};
use super::loss::PolicyLoss;
use super::normalize::{ObsNormalizer, RewardScaler};
use super::on_policy::{Estimates, OnPolicy, head_for};
use super::policy::{Comparison, Net, TensorSample, reachable};
use super::profile::{self, Stage};
use super::rollout::{Collector, Rollout, Sight};
use super::trunk::{Representation, Trunk, TrunkWork};
use super::value_head::ValueHead;
use super::weights::{Scalar, Vector, Weights, apart, read};
use crate::{Acting, AgentError, BuildError, Metrics, Seen, Setup};

/// Where the parts of the parameters lie, one after another.
#[derive(Clone, Copy, Debug)]
struct Places {
    trunk: usize,
    policy: usize,
    log_std: usize,
    value: usize,
}

/// Buffers of passes through the network.
#[derive(Clone, Debug, Default)]
pub struct NetWork {
    trunk: TrunkWork,
    policy: mlr::Work<f32>,
    value: mlr::Work<f32>,
}

/// The network with its parameters.
pub struct SharedNet {
    trunk: Trunk,
    policy: Mlr,
    value: Mlr,
    head: Head,
    value_head: ValueHead,
    places: Places,
    /// Euclidean parameters and the gradient of the loss last asked for, `[P]`.
    pub weights: Weights,
    /// Points of the ball, of both heads, and their gradient; empty for scalar offsets.
    pub points: Weights,
    /// Copies of both in host memory, where they lie elsewhere.
    copies: [Vec<f32>; 2],
    device: Device,
    /// Standard deviations of Gaussian actions.
    std: Vec<f32>,
    density: Density,
    work: NetWork,
}

/// Losses of a minibatch.
pub struct Losses {
    /// Of the policy.
    pub policy: Scalar,
    /// Of the value, times its weight.
    pub value: Scalar,
}

/// A vector in host memory, or its copy there.
fn host<'a>(vector: &'a Vector, copy: &'a [f32]) -> &'a [f32] {
    match vector {
        Vector::Host(values) => values,
        Vector::Tensor(_) => copy,
    }
}

impl SharedNet {
    /// A network with fresh weights drawn from `rng`.
    pub fn new(
        head: Head,
        obs_len: usize,
        net: &Net,
        representation: &Representation,
        rng: &mut Rng,
        setup: &Setup,
    ) -> Self {
        let r = representation;
        let device = &setup.device;
        let value_head = r.value_head();
        let (policy, value) = (r.embedding.head(head.outputs()), r.embedding.head(value_head.outputs()));
        let (trunk, mut params) = Trunk::new(obs_len, net, &r.embedding, rng, setup);
        params.extend(policy.init(r.embedding.head_gain, rng));
        let policy_end = params.len();
        params.extend(std::iter::repeat_n(net.log_std_init as f32, head.extra_params()));
        let log_std = params.len();
        params.extend(value.init(r.embedding.head_gain, rng));
        let places = Places { trunk: trunk.len(), policy: policy_end, log_std, value: params.len() };
        let points = vec![0.0; policy.points_len() + value.points_len()];
        let mut network = Self {
            trunk,
            policy,
            value,
            head,
            value_head,
            places,
            weights: Weights::new(params, device),
            points: Weights::new(points, device),
            copies: [Vec::new(), Vec::new()],
            device: device.clone(),
            std: Vec::new(),
            density: Density::default(),
            work: NetWork::default(),
        };
        network.settle();
        network
    }

    /// The action distribution's kind.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Parameters and points, in host memory.
    fn params(&self) -> (&[f32], &[f32]) {
        (host(&self.weights.params, &self.copies[0]), host(&self.points.params, &self.copies[1]))
    }

    /// Takes changed parameters over, without a step of power iteration.
    pub fn settle(&mut self) {
        for (weights, copy) in [&self.weights, &self.points].into_iter().zip(&mut self.copies) {
            if let Vector::Tensor(_) = weights.params {
                *copy = weights.to_host();
            }
        }
        let params = host(&self.weights.params, &self.copies[0]);
        self.trunk.settle(params);
        self.std.clear();
        self.std
            .extend(params[self.places.policy..self.places.log_std].iter().map(|l| super::kernels::exp(*l)));
    }

    /// Trunk and the head of the policy at observations `[B, O]`.
    fn forward(&self, obs: &[f32], masks: &[bool], work: &mut NetWork) {
        let (params, points) = self.params();
        let p = self.places;
        self.trunk.forward(params, obs, &mut work.trunk);
        let policy = &params[p.trunk..p.policy];
        let features = work.trunk.features().0;
        self.policy.forward(policy, &points[..self.policy.points_len()], features, &mut work.policy);
        self.head.forbid(masks, work.policy.outputs_mut());
    }

    /// The head of the value, after [`Self::forward`].
    fn forward_value(&self, work: &mut NetWork) {
        let (params, points) = self.params();
        let value = &params[self.places.log_std..self.places.value];
        let features = work.trunk.features().0;
        self.value.forward(value, &points[self.policy.points_len()..], features, &mut work.value);
    }

    /// Losses over `rows`, the value's times `value_coef`; the gradient of their sum goes to [`Self::weights`] and
    /// [`Self::points`].
    pub fn grad(&mut self, rows: &HostRows, loss: &impl PolicyLoss, value_coef: f64) -> Losses {
        match &self.weights.params {
            Vector::Host(_) => self.grad_slices(rows, loss, value_coef),
            Vector::Tensor(params) => self.grad_tensors(params.clone(), rows, loss, value_coef),
        }
    }

    fn grad_slices(&mut self, rows: &HostRows, loss: &impl PolicyLoss, value_coef: f64) -> Losses {
        let Vector::Host(params) = &self.weights.params else { apart() };
        self.trunk.iterate(params);
        self.settle();
        let mut work = std::mem::take(&mut self.work);
        self.forward(&rows.obs, &rows.masks, &mut work);
        self.forward_value(&mut work);
        let p = self.places;
        let (Vector::Host(params), Vector::Host(grad), Vector::Host(points), Vector::Host(d_points)) =
            (&self.weights.params, &mut self.weights.grad, &self.points.params, &mut self.points.grad)
        else {
            apart()
        };
        let (policy_points, value_points) = points.split_at(self.policy.points_len());
        let (d_policy_points, d_value_points) = d_points.split_at_mut(self.policy.points_len());

        // Losses, and their derivatives with respect to the outputs.
        let (outputs, d_outputs) = work.policy.outputs();
        let log_std = &params[p.policy..p.log_std];
        let d_log_std = &mut grad[p.policy..p.log_std];
        let policy = self.density.grad(&self.head, outputs, log_std, rows, loss, d_outputs, d_log_std);
        let (outputs, d_outputs) = work.value.outputs();
        let k = self.value.outputs();
        let weight = (value_coef / rows.ret.len() as f64) as f32;
        let mut value = 0.0;
        for ((y, d_y), ret) in outputs.chunks_exact(k).zip(d_outputs.chunks_exact_mut(k)).zip(&rows.ret) {
            value += f64::from(self.value_head.loss(y, *ret, weight, d_y));
        }

        // Back through heads and trunk.
        let (v, d_v) = work.trunk.features();
        d_v.fill(0.0);
        let of_policy = &params[p.trunk..p.policy];
        let d_policy = &mut grad[p.trunk..p.policy];
        self.policy.backward(of_policy, policy_points, v, &mut work.policy, d_policy, d_policy_points, d_v);
        let of_value = &params[p.log_std..p.value];
        let d_value = &mut grad[p.log_std..p.value];
        self.value.backward(of_value, value_points, v, &mut work.value, d_value, d_value_points, d_v);
        self.trunk.backward(params, &rows.obs, &mut work.trunk, grad);
        self.work = work;
        Losses { policy: Scalar::Host(policy), value: Scalar::Host(value) }
    }

    fn grad_tensors(
        &mut self,
        params: Tensor<1>,
        rows: &HostRows,
        loss: &impl PolicyLoss,
        value_coef: f64,
    ) -> Losses {
        if self.trunk.is_spectral() {
            self.trunk.iterate(&self.weights.to_host());
        }
        let (device, p, head) = (&self.device, self.places, &self.head);
        let params = params.autodiff().require_grad();
        let points = match &self.points.params {
            Vector::Tensor(points) => Some(points.clone().autodiff().require_grad()),
            Vector::Host(_) => None,
        };
        let part = |from: usize, to: usize| params.clone().narrow(0, from, to - from);
        let obs_len = rows.obs.len() / rows.ret.len();
        let obs = device.matrix(rows.obs.clone(), obs_len).autodiff();
        let v = self.trunk.forward_tensor(&params, obs.clone(), device); // [B, d]

        // The policy's loss.
        let (n, m) = (self.policy.points_len(), self.value.points_len());
        let of_policy = points.as_ref().map(|points| points.clone().narrow(0, 0, n));
        let outputs = self.policy.forward_tensor(&part(p.trunk, p.policy), of_policy.as_ref(), v.clone());
        let forbidden = head.forbidden(&rows.masks, device).map(Tensor::autodiff);
        let row = |row: Tensor<1>| row.reshape([1, head.extra_params()]); // [1, E]
        let extra = (head.extra_params() > 0).then(|| row(part(p.policy, p.log_std)));
        let dist = head.dist(reachable(outputs, forbidden.as_ref()), extra);
        let extra_old = (head.extra_params() > 0).then(|| row(device.vector(rows.log_std_old.clone())));
        let rows_there = TensorRows {
            obs: obs.inner(),
            forbidden: None,
            actions: device.matrix(rows.actions.clone(), head.action_len()),
            dist_old: head.dist(device.matrix(rows.old.clone(), head.outputs()), extra_old),
            log_prob_old: device.vector(rows.log_prob_old.clone()),
            value_old: device.vector(rows.ret.clone()),
            advantage: device.vector(rows.advantage.clone()),
            ret: device.vector(rows.ret.clone()),
        };
        let policy = loss.row(&TensorSample { dist: &dist, rows: &rows_there }).mean();

        // The value's.
        let of_value = points.as_ref().map(|points| points.clone().narrow(0, n, m));
        let outputs = self.value.forward_tensor(&part(p.log_std, p.value), of_value.as_ref(), v);
        let value = self.value_head.loss_tensor(outputs, &rows.ret, device) * value_coef;

        let losses = Losses {
            policy: Scalar::Tensor(policy.clone().inner()),
            value: Scalar::Tensor(value.clone().inner()),
        };
        let gradients = (policy + value).backward();
        let grad = |leaf: &Tensor<1>| {
            Vector::Tensor(leaf.grad(&gradients).unwrap_or_else(|| leaf.clone().inner().zeros_like()))
        };
        self.weights.grad = grad(&params);
        if let Some(points) = &points {
            self.points.grad = grad(points);
        }
        losses
    }

    /// V(s), `[B]`, for observations `[B, O]`, added to `out`.
    pub fn values(&mut self, obs: &[f32], out: &mut Vec<f32>) {
        let mut work = std::mem::take(&mut self.work);
        self.forward(obs, &[], &mut work);
        self.forward_value(&mut work);
        let outputs = work.value.outputs().0.chunks_exact(self.value.outputs());
        out.extend(outputs.map(|y| self.value_head.value(y)));
        self.work = work;
    }

    /// Completes `rows` with π as π_old and the log-probabilities under it.
    fn remember(&mut self, rows: &mut HostRows) {
        let mut work = std::mem::take(&mut self.work);
        self.forward(&rows.obs, &rows.masks, &mut work);
        let log_std = &host(&self.weights.params, &self.copies[0])[self.places.policy..self.places.log_std];
        self.density.remember(&self.head, work.policy.outputs().0, log_std, rows);
        self.work = work;
    }

    /// How π differs from π_old over `rows`, and what features and values are there.
    fn compare(&mut self, rows: &HostRows, clip: f64) -> (Comparison, Summary) {
        let mut work = std::mem::take(&mut self.work);
        self.forward(&rows.obs, &rows.masks, &mut work);
        self.forward_value(&mut work);
        let log_std = &host(&self.weights.params, &self.copies[0])[self.places.policy..self.places.log_std];
        let comparison = self.density.compare(&self.head, work.policy.outputs().0, log_std, rows, clip);
        let n = rows.ret.len() as f64;
        let outputs = work.value.outputs().0.chunks_exact(self.value.outputs());
        let square =
            |(y, ret): (&[f32], &f32)| (f64::from(self.value_head.value(y)) - f64::from(*ret)).powi(2);
        let value_error = outputs.zip(&rows.ret).map(square).sum::<f64>() / n;
        let (feature_norm, gate) = work.trunk.means();
        let outside = rows.ret.iter().filter(|ret| self.value_head.is_outside(**ret)).count() as f64 / n;
        self.work = work;
        (comparison, Summary { value_error, feature_norm, gate, outside })
    }

    /// δ_rel of `count` of the features last passed forward, at equal distances, and the rank correlation of the length of
    /// all of them with `ages`.
    fn measure(&mut self, count: usize, ages: &[Option<u32>]) -> (Option<f64>, Option<f64>) {
        if count == 0 {
            return (None, None);
        }
        let (geometry, c) = (self.policy.geometry(), self.policy.curvature());
        let features = self.work.trunk.features().0;
        let d = features.len() / ages.len().max(1);
        let every = (ages.len() / count).max(1);
        let some: Vec<f32> = features.chunks_exact(d).step_by(every).take(count).flatten().copied().collect();
        let aged = features.chunks_exact(d).zip(ages).filter_map(|(v, age)| Some((v, (*age)?)));
        let (radii, depths): (Vec<f64>, Vec<f64>) =
            aged.map(|(v, age)| (f64::from(dot(v, v)), f64::from(age))).unzip();
        (relative_delta(&some, d, geometry, c), rank_correlation(&radii, &depths))
    }

    /// Mean standard deviation of Gaussian actions.
    fn action_std(&self) -> Option<f64> {
        let n = self.std.len();
        (n > 0).then(|| self.std.iter().map(|s| f64::from(*s)).sum::<f64>() / n as f64)
    }

    /// Saves the weights by part: the encoder's layers and the policy's head under `policy`, the value's under `critic`.
    pub fn save(&self, state: &mut State) {
        let (params, points) = (self.weights.to_host(), self.points.to_host());
        self.trunk.save(&params, "policy", state);
        for (name, range, shape) in self.heads() {
            state.put(&name, steadfast_envs::state::Array::F32(shape, params[range].to_vec()));
        }
        state.put_f32("points", &points);
    }

    /// Restores the weights.
    ///
    /// # Errors
    /// When an entry is missing or has another length.
    pub fn load(&mut self, state: &State) -> Result<(), StateError> {
        let mut params = self.trunk.load("policy", state)?;
        for (name, range, _) in self.heads() {
            params.extend_from_slice(state.f32(&name, range.len())?);
        }
        self.weights.set(params);
        self.points.set(state.f32("points", self.points.len())?.to_vec());
        self.settle();
        Ok(())
    }

    /// Name, place and shape of the parameters behind the trunk's.
    fn heads(&self) -> Vec<(String, std::ops::Range<usize>, Vec<usize>)> {
        let mut parts: Vec<(String, Vec<usize>)> = Vec::new();
        parts.extend(self.policy.parts().into_iter().map(|(n, shape)| (format!("policy.{n}"), shape)));
        if self.head.extra_params() > 0 {
            parts.push(("policy.log_std".to_owned(), vec![self.head.extra_params()]));
        }
        parts.extend(self.value.parts().into_iter().map(|(n, shape)| (format!("critic.{n}"), shape)));
        let mut at = self.places.trunk;
        let place = |(name, shape): (String, Vec<usize>)| {
            let len = shape.iter().product::<usize>();
            at += len;
            (name, at - len..at, shape)
        };
        parts.into_iter().map(place).collect()
    }
}

/// Steps since the episode began of each row of a rollout `[T, N]`; none before a copy's first ending.
fn ages(terminated: &[bool], truncated: &[bool], n: usize, ages: &mut Vec<Option<u32>>) {
    ages.clear();
    for i in 0..terminated.len() {
        let before = i.checked_sub(n);
        ages.push(
            before.and_then(|j| if terminated[j] || truncated[j] { Some(0) } else { ages[j].map(|a| a + 1) }),
        );
    }
}

/// Features and values over a batch.
struct Summary {
    value_error: f64,
    feature_norm: f64,
    gate: Option<f64>,
    outside: f64,
}

/// The network with its collector: the counterpart of [`ActorCritic`](super::on_policy::ActorCritic).
pub struct SharedActorCritic {
    config: OnPolicy,
    /// Actor and critic.
    pub net: SharedNet,
    /// Iterations done, k.
    pub iteration: u64,
    /// Iterations planned, K.
    pub iterations: u64,
    collector: Collector,
    acting: NetWork,
    minibatch_rng: Rng,
    device: Device,
    obs_len: usize,
    rollout: Rollout,
    estimates: Estimates,
    /// Embeddings whose geometry is measured, and the steps since the episode began of each row of the batch, where
    /// the batch holds its beginning.
    measured: usize,
    ages: Vec<Option<u32>>,
    spare: Option<Batch>,
    /// Normalised observations and buffers of evaluation.
    evaluation: RefCell<(Vec<f32>, NetWork)>,
}

impl SharedActorCritic {
    /// Fresh networks for a task with one agent. The geometry of `measured` embeddings an iteration goes into its
    /// metrics.
    ///
    /// # Errors
    /// When a setting is out of range, the task is none that on-policy agents can act in.
    pub fn new(
        config: OnPolicy,
        representation: &Representation,
        measured: usize,
        setup: &Setup,
    ) -> Result<Self, BuildError> {
        config.validate()?;
        representation.validate()?;
        let (spec, seed, n) = (setup.spec, setup.seed, config.num_envs);
        let head = head_for(spec)?;
        let obs_len = spec.obs_len();
        let collector = Collector::new(
            seed,
            n,
            head.extra_params(),
            config.noise_correlation,
            ObsNormalizer::new(obs_len, config.normalize_obs),
            RewardScaler::new(n, config.gamma, config.normalize_reward),
        );
        let mut init = rng::stream(seed, Purpose::Init, 0);
        Ok(Self {
            net: SharedNet::new(head, obs_len, &config.net, representation, &mut init, setup),
            iteration: 0,
            iterations: setup.total_steps / (n * config.horizon) as u64,
            collector,
            acting: NetWork::default(),
            minibatch_rng: rng::stream(seed, Purpose::Minibatch, 0),
            device: setup.device.clone(),
            obs_len: obs_len * n,
            rollout: Rollout::default(),
            estimates: Estimates::default(),
            measured,
            ages: Vec::new(),
            spare: None,
            evaluation: RefCell::default(),
            config,
        })
    }

    /// Environment steps of one iteration.
    pub fn batch_len(&self) -> usize {
        self.config.num_envs * self.config.horizon
    }

    /// Acts for T steps and estimates advantages and returns of the batch.
    ///
    /// # Errors
    /// When an observation or a reward is not finite.
    pub fn collect(&mut self, envs: &mut VecEnv) -> Result<Batch, AgentError> {
        let n = envs.len();
        let (net, work, rollout) = (&mut self.net, &mut self.acting, &mut self.rollout);
        let (head, std) = (&net.head, &net.std);
        let (k, e, a) = (head.outputs(), head.extra_params(), head.action_len());
        let mut sample = |sight: Sight, rng: &mut Rng, actions: &mut [f32]| {
            net.forward(sight.obs, sight.masks, work);
            let outputs = work.policy.outputs().0;
            for (i, action) in actions.chunks_exact_mut(a).enumerate() {
                head.sample(&outputs[i * k..(i + 1) * k], std, &sight.noise[i * e..(i + 1) * e], rng, action);
            }
        };
        self.collector.collect_with(a, &mut sample, envs, self.config.horizon, rollout)?;
        profile::enter(Stage::Advantages);
        let estimates = &mut self.estimates;
        estimates.estimate(rollout, n, &self.config, |obs, out| net.values(obs, out));
        let values = &estimates.values[..rollout.rewards.len()];
        let explained = explained_variance(values, &estimates.returns);
        let spare = self.spare.take();
        let mut batch = spare.unwrap_or_else(|| Batch::new(Rows::Host(HostRows::default()), None));
        if let Rows::Host(rows) = &mut batch.rows {
            std::mem::swap(&mut rows.obs, &mut rollout.obs);
            std::mem::swap(&mut rows.masks, &mut rollout.masks);
            std::mem::swap(&mut rows.actions, &mut rollout.actions);
            std::mem::swap(&mut rows.advantage, &mut estimates.advantages);
            std::mem::swap(&mut rows.ret, &mut estimates.returns);
            rows.value_old.clear();
            rows.value_old.extend_from_slice(values);
            net.remember(rows);
        }
        batch.explained_variance = explained;
        if self.measured > 0 {
            ages(&rollout.terminated, &rollout.truncated, n, &mut self.ages);
        }
        profile::enter(Stage::Update);
        Ok(batch)
    }

    /// Draws the minibatches that [`Batch::minibatch`] hands out: `epochs` passes in random orders.
    pub fn shuffle(&mut self, batch: &mut Batch, epochs: usize, minibatch: usize) {
        batch.shuffle(epochs, minibatch, &mut self.minibatch_rng, &self.device);
    }

    /// Ends an iteration: counts, and completes the agent's `own` metrics with what holds for the whole batch after the
    /// update.
    pub fn finish(&mut self, mut batch: Batch, clip: f64, own: Metrics) -> Metrics {
        self.net.settle();
        self.iteration += 1;
        batch.rows.standardize_advantage(1e-8);
        let Rows::Host(rows) = &batch.rows else { apart() };
        let (after, summary) = self.net.compare(rows, clip);
        let of_all = [after.surrogate, after.kl_old_new, after.entropy, after.clip_fraction];
        let [surrogate, kl, entropy, clip_fraction] = read(of_all);
        let (delta_rel, radius_depth) = self.net.measure(self.measured, &self.ages);
        let explained_variance = batch.explained_variance;
        self.spare = Some(batch);
        Metrics {
            policy_loss: Some(-surrogate),
            value_loss: Some(summary.value_error),
            kl: Some(kl),
            entropy: Some(entropy),
            clip_fraction: Some(clip_fraction),
            explained_variance,
            action_std: self.net.action_std(),
            feature_norm: Some(summary.feature_norm),
            gate: summary.gate,
            delta_rel,
            radius_depth,
            returns_outside: Some(summary.outside),
            ..own
        }
    }

    /// Actions `[rows, action_len]` for what is seen, picked as `how` says.
    pub fn pick(&self, seen: &Seen, how: Acting, actions: &mut [f32], rng: &mut Rng) {
        let (normalized, work) = &mut *self.evaluation.borrow_mut();
        normalized.clear();
        self.collector.normalized(seen.obs, normalized);
        self.net.forward(normalized, seen.masks, work);
        self.net.head.pick(work.policy.outputs().0, &self.net.std, how, rng, actions);
    }

    /// Saves network, normalisers, streams and counters.
    pub fn save(&self, state: &mut State) {
        self.net.save(state);
        let mut collector = State::new();
        self.collector.save(&mut collector);
        state.put_state("collector", collector);
        rng::save(&self.minibatch_rng, "minibatch_rng", state);
        state.put_u64("iteration", &[self.iteration]);
    }

    /// Restores what [`Self::save`] wrote.
    ///
    /// # Errors
    /// When an entry is missing or has another length.
    pub fn load(&mut self, state: &State) -> Result<(), AgentError> {
        self.net.load(state)?;
        self.collector.load(&state.state("collector"), self.obs_len)?;
        self.minibatch_rng = rng::load("minibatch_rng", state)?;
        self.iteration = state.u64("iteration", 1)?[0];
        Ok(())
    }
}

#[cfg(all(test, feature = "cpu"))]
#[allow(clippy::unwrap_used, reason = "helpers of tests")]
mod tests {
    use super::super::features::{Norm, Scale};
    use super::super::hyperbolic::mlr::Geometry;
    use super::super::loss::ClippedSurrogate;
    use super::super::mlp::Activation;
    use super::super::testing::{actions, arm, close, heads, normals, rng, tensor_devices};
    use super::super::trunk::Embedding;
    use super::super::value_head::ValueLoss;
    use super::*;
    use crate::Device;
    use steadfast_envs::make;

    fn network(head: &Head, representation: &Representation) -> SharedNet {
        network_on(&Device::cpu(), head, representation)
    }

    fn network_on(device: &Device, head: &Head, representation: &Representation) -> SharedNet {
        let task = make("CartPole-v1").unwrap();
        let setup = Setup { spec: task.spec(), seed: 0, total_steps: 1, device: device.clone() };
        let net = Net { hidden: vec![5], activation: Activation::Tanh, ..Net::default() };
        let mut network = SharedNet::new(head.clone(), 3, &net, representation, &mut rng(0), &setup);
        // All of order one, so that no derivative hides near zero.
        network.weights.set(normals(network.weights.len(), 1).iter().map(|x| 0.4 * x).collect());
        network.points.set(normals(network.points.len(), 2).iter().map(|x| 0.1 * x).collect());
        let params = network.weights.to_host();
        (0..300).for_each(|_| network.trunk.iterate(&params));
        network.settle();
        network
    }

    fn rows(network: &mut SharedNet, n: usize) -> HostRows {
        let mut rows = HostRows {
            obs: normals(3 * n, 3),
            actions: actions(&network.head.clone(), n, 4),
            advantage: normals(n, 5),
            ret: normals(n, 6),
            ..HostRows::default()
        };
        network.remember(&mut rows);
        rows.log_prob_old.iter_mut().zip(normals(n, 7)).for_each(|(l, s)| *l += 0.05 * s);
        rows
    }

    /// Every part of the chain and every loss.
    fn arms() -> impl Iterator<Item = Representation> {
        use Geometry::{Ball, BallPoints, Euclidean, Hyperboloid};
        let arms = [
            (Norm::Rms, Scale::Gate, Hyperboloid, ValueLoss::HlGauss),
            (Norm::None, Scale::None, BallPoints, ValueLoss::Squared),
            (Norm::Spectral, Scale::Root, BallPoints, ValueLoss::Squared),
            (Norm::Layer, Scale::Clip, Ball, ValueLoss::TwoHot),
            (Norm::Rms, Scale::Gate, Euclidean, ValueLoss::HlGauss),
        ];
        arms.into_iter().map(arm)
    }

    /// Every head: losses and the whole gradient on tensors against those on slices.
    #[test]
    fn tensors_agree_with_slices() {
        let loss = ClippedSurrogate { clip: 0.2, entropy: 0.1 };
        for device in tensor_devices() {
            for (representation, head) in arms().zip(heads().into_iter().cycle()) {
                let mut ours = network_on(&device, &head, &representation);
                let mut slices = network(&head, &representation);
                let rows = rows(&mut slices, 6);
                let [a, b] = [&mut ours, &mut slices].map(|network| network.grad(&rows, &loss, 0.5));
                let [a, b] = [a, b].map(|losses| read([losses.policy, losses.value]).map(|x| x as f32));
                close(&a, &b, 1e-5);
                close(&ours.weights.grad_to_host(), &slices.weights.grad_to_host(), 1e-4);
                close(&ours.points.grad_to_host(), &slices.points.grad_to_host(), 1e-4);
                let (mut a, mut b) = (Vec::new(), Vec::new());
                ours.values(&rows.obs, &mut a);
                slices.values(&rows.obs, &mut b);
                close(&a, &b, 1e-6);
            }
        }
    }

    /// Every head: the whole gradient against finite differences.
    #[test]
    fn the_gradient_agrees_with_finite_differences() {
        let loss = ClippedSurrogate { clip: 0.2, entropy: 0.1 };
        for head in heads() {
            for representation in arms() {
                let (norm, geometry) = (representation.embedding.norm, representation.embedding.geometry);
                let mut network = network(&head, &representation);
                let rows = rows(&mut network, 6);
                network.grad(&rows, &loss, 0.5);
                let (ours, ours_points) = (network.weights.grad_to_host(), network.points.grad_to_host());
                let (params, points) = (network.weights.to_host(), network.points.to_host());
                let total = |network: &mut SharedNet| {
                    let losses = network.grad(&rows, &loss, 0.5);
                    read([losses.policy, losses.value]).iter().sum::<f64>()
                };
                let size = ours.iter().fold(0.1f64, |m, x| m.max(f64::from(x.abs())));
                let h = 2e-3;
                for i in 0..params.len() {
                    let mut at = |h: f32| {
                        let mut moved = params.clone();
                        moved[i] += h;
                        network.weights.set(moved);
                        total(&mut network)
                    };
                    let numeric = (at(h) - at(-h)) / f64::from(2.0 * h);
                    let error = (f64::from(ours[i]) - numeric).abs();
                    assert!(error < 1e-2 * size, "{norm:?} {geometry:?} {i}: {}, not {numeric}", ours[i]);
                }
                network.weights.set(params);
                for i in 0..points.len() {
                    let mut at = |h: f32| {
                        let mut moved = points.clone();
                        moved[i] += h;
                        network.points.set(moved);
                        total(&mut network)
                    };
                    let numeric = (at(h) - at(-h)) / f64::from(2.0 * h);
                    let error = (f64::from(ours_points[i]) - numeric).abs();
                    assert!(error < 1e-2 * size, "{norm:?} point {i}: {}, not {numeric}", ours_points[i]);
                }
            }
        }
    }

    /// Two copies: the first ends at step 1, the second never.
    #[test]
    fn ages_count_from_the_beginning_of_an_episode() {
        let terminated = [false, false, true, false, false, false, false, false];
        let mut found = Vec::new();
        ages(&terminated, &[false; 8], 2, &mut found);
        assert_eq!(found, [None, None, None, None, Some(0), None, Some(1), None]);
        ages(&[false; 8], &terminated, 2, &mut found);
        assert_eq!(found[4], Some(0));
    }

    /// Values are those of the head's outputs; saving and loading restores all of them.
    #[test]
    fn a_loaded_network_computes_the_same() {
        let representation = Representation {
            embedding: Embedding {
                norm: Norm::Spectral,
                geometry: Geometry::BallPoints,
                features: 4,
                ..Embedding::default()
            },
            ..Representation::default()
        };
        for head in heads() {
            let mut ours = network(&head, &representation);
            let mut state = State::new();
            ours.save(&mut state);
            let task = make("CartPole-v1").unwrap();
            let setup = Setup { spec: task.spec(), seed: 0, total_steps: 1, device: Device::cpu() };
            let net = Net { hidden: vec![5], ..Net::default() };
            let mut other = SharedNet::new(head, 3, &net, &representation, &mut rng(9), &setup);
            other.load(&state).unwrap();
            let obs = normals(30, 8);
            let (mut a, mut b) = (Vec::new(), Vec::new());
            ours.values(&obs, &mut a);
            other.values(&obs, &mut b);
            assert_eq!(a, b);
            assert_eq!(ours.std, other.std);
            close(&ours.weights.to_host(), &other.weights.to_host(), 0.0);
        }
    }
}
